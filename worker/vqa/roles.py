"""Which of a version's graphs does what: by their forms, by model.yaml where two fit, and refused otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.errors import ModelError
from worker.contract import Model
from worker.vqa.forms import Form, Kind, form_of
from worker.vqa.settings import GraphNames


@dataclass(frozen=True)
class Speaker:
    """What says the words: the graph of the first pass, and the one for each token after it, where there is a cache."""

    first: Form
    #: None: the whole row is fed anew for each token. A merged graph is both.
    further: Form | None

    def told(self) -> str:
        if self.further is None:
            return f"{self.first.name}, fed the whole row for each token"
        return self.first.name if self.further is self.first else f"{self.first.name}, then {self.further.name}"


@dataclass(frozen=True)
class Roles:
    vision: Form
    #: None where the model only makes captions.
    question: Form | None
    answer: Speaker | None
    caption: Speaker | None

    @property
    def used(self) -> set[str]:
        """The graphs' names."""
        speakers = [speaker for speaker in (self.answer, self.caption) if speaker is not None]
        spoken = [form for speaker in speakers for form in (speaker.first, speaker.further)]
        return {form.name for form in (self.vision, self.question, *spoken) if form is not None}

    def told(self) -> list[str]:
        """For who checks a model."""
        found = [f"vision encoder: {self.vision.name}"]
        if self.question is not None and self.answer is not None:
            found += [f"question encoder: {self.question.name}", f"answers: {self.answer.told()}"]
        if self.caption is not None:
            found.append(f"captions: {self.caption.told()}")
        return found


def roles_of(graphs: Mapping[str, Model], names: GraphNames, words: int) -> Roles:
    """Raises ModelError `graphs-ambiguous` when two graphs fit one place, `graphs-incomplete` when none does, and as
    `form_of`."""
    said = {role: name for role, name in names.model_dump().items() if name is not None}
    if unknown := sorted(set(said.values()) - graphs.keys()):
        raise ModelError(
            f"pipeline.graphs names {', '.join(unknown)}, and the version's graphs are {', '.join(graphs)}",
            code="graphs-incomplete",
        )
    forms = {name: form_of(name, model, words) for name, model in graphs.items()}
    named = {role: forms.pop(name) for role, name in said.items() if name in forms}
    left = list(forms.values())
    vision = named.get("vision") or _only(Kind.VISION, left, "vision")
    if vision is None:
        raise ModelError(
            f"none of the graphs {', '.join(graphs)} takes pixels alone: a vision encoder is missing",
            code="graphs-incomplete",
        )
    question = named.get("question") or _only(Kind.QUESTION, left, "question")
    answer = _speaker("answer", named, left if "caption" in named or question is not None else [])
    taken = {form.name for speaker in [answer] if speaker for form in (speaker.first, speaker.further) if form}
    # Beside a question encoder a decoder answers; that another one makes captions has to be said.
    rest = [] if question is not None and "caption" not in named else [form for form in left if form.name not in taken]
    caption = _speaker("caption", named, rest)
    if question is not None and answer is None:
        raise ModelError(f"beside the question encoder {question.name} there is no decoder", code="graphs-incomplete")
    if answer is not None and question is None:
        raise ModelError(f"{answer.first.name} is to answer, and no graph encodes questions", code="graphs-incomplete")
    if answer is None and caption is None:
        raise ModelError("there is no decoder: no graph gives a number for each word", code="graphs-incomplete")
    return Roles(vision, question, answer, caption)


def _only(kind: Kind, forms: Sequence[Form], role: str) -> Form | None:
    found = [form for form in forms if form.kind is kind]
    if len(found) > 1:
        raise ModelError(
            f"{' and '.join(form.name for form in found)} both look like a {kind.value}: say in model.yaml under "
            f"pipeline.graphs.{role} which is which",
            code="graphs-ambiguous",
        )
    return next(iter(found), None)


def _speaker(role: str, named: Mapping[str, Form], left: Sequence[Form]) -> Speaker | None:
    first = named.get(role) or _only(Kind.MERGED, left, role) or _only(Kind.DECODER, left, role)
    if first is None:
        return None
    if first.kind is Kind.MERGED:
        _check_cache(first, first)
        return Speaker(first, first)
    if first.kind is not Kind.DECODER:
        raise ModelError(f"pipeline.graphs.{role}: {first.name} is a {first.kind.value}", code="graphs-incomplete")
    further = named.get(f"{role}_with_past") or _only(Kind.WITH_PAST, left, f"{role}_with_past")
    if further is None:
        return Speaker(first, None)
    _check_cache(first, further)
    return Speaker(first, further)


def _check_cache(first: Form, further: Form) -> None:
    """A graph that is not fed what it said of the text so far would go on from a text that is older."""
    if missing := sorted(further.past.keys() - first.present.keys()):
        layer, side, what = missing[0]
        raise ModelError(
            f"{further.name} wants the {side}'s {what} of layer {layer}, and {first.name} does not give it: the two "
            "are of different exports, or the first was exported without its cache",
            code="graphs-incomplete",
        )
    if missing := sorted(key for key in further.past.keys() - further.present.keys() if key[1] == "decoder"):
        layer, _, what = missing[0]
        raise ModelError(
            f"{further.name} wants the decoder's {what} of layer {layer} for each token and does not give it with the "
            "new token's: it was exported without its cache",
            code="graphs-incomplete",
        )
