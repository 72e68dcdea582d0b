"""What a request wants of each picture: answers to questions, or a caption."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet.errors import ValidationFailed
from worker.vqa.publisher import Search
from worker.vqa.roles import Roles
from worker.vqa.settings import VqaParams
from worker.vqa.words import Vocabulary


@dataclass(frozen=True)
class Questions:
    texts: Sequence[str]
    #: Token ids of each.
    ids: Sequence[Sequence[int]]
    search: Search
    #: Whether the answer is one, and not a list.
    alone: bool

    def alike(self, most: int) -> Iterator[list[int]]:
        """Places of those that have as many tokens as each other, at most so many together."""
        lengths: dict[int, list[int]] = {}
        for place, ids in enumerate(self.ids):
            lengths.setdefault(len(ids), []).append(place)
        for places in lengths.values():
            yield from (places[at : at + most] for at in range(0, len(places), most))


@dataclass(frozen=True)
class Caption:
    #: Token ids, the first of which begins every caption.
    beginning: Sequence[int]
    search: Search


Asked = Questions | Caption


def asked_of(params: VqaParams, words: Vocabulary, roles: Roles, search: Search, positions: int) -> Asked:
    """positions: tokens of a text at most.

    Raises ValidationFailed `question-twice`, `question-missing`, `question-empty`, `questions-unsupported`,
    `captions-unsupported` or `prompt-too-long`.
    """
    question, pointer = params.question, "#/params/question"
    if question is not None and params.prompt is not None:
        raise _fault("a question is asked twice: in `question` and as `prompt`", "question-twice", "#/params/prompt")
    if question is None and params.prompt is not None and params.kind != "caption" and roles.answer is not None:
        question, pointer = params.prompt, "#/params/prompt"
    if question is not None and params.kind == "caption":
        raise _fault("a caption answers no question: say with `prompt` how it begins", "question-twice", pointer)
    if question is not None:
        if roles.answer is None:
            raise _fault("this model makes captions and takes no questions", "questions-unsupported", pointer)
        return _questions(question, words, search, positions, pointer)
    if params.kind == "answer" or roles.caption is None:
        if roles.answer is None:
            raise _fault("this model makes captions and takes no questions", "questions-unsupported", "#/params/kind")
        if params.kind == "caption":
            raise _fault("this model answers questions and makes no captions", "captions-unsupported", "#/params/kind")
        raise _fault("there is no question: say it in the params as `question`", "question-missing", pointer)
    beginning = words.beginning(params.prompt or "")
    if len(beginning) >= positions:
        raise _too_long("the prompt", len(beginning), positions - 1, "#/params/prompt")
    return Caption(beginning, search)


def _questions(given: str | list[str], words: Vocabulary, search: Search, positions: int, pointer: str) -> Questions:
    texts = [given] if isinstance(given, str) else given
    found = []
    for number, text in enumerate(texts):
        where, what = (
            (pointer, "the question") if isinstance(given, str) else (f"{pointer}/{number}", f"question {number}")
        )
        if words.bare(text):
            raise _fault(f"{what} is empty", "question-empty", where)
        ids = words.question(text)
        if len(ids) > positions:
            raise _too_long(what, len(ids), positions, where)
        found.append(ids)
    return Questions(texts, found, search, alone=isinstance(given, str))


def _too_long(what: str, tokens: int, most: int, pointer: str) -> ValidationFailed:
    detail = f"{what} has {tokens} tokens, and the model takes at most {most}: shorten it"
    return ValidationFailed(
        detail, [{"detail": detail, "pointer": pointer}], code="prompt-too-long", tokens=tokens, max_tokens=most
    )


def _fault(detail: str, code: str, pointer: str) -> ValidationFailed:
    return ValidationFailed(detail, [{"detail": detail, "pointer": pointer}], code=code)
