"""From what a request says besides its pictures to the params of the model's task, by the schema on its card.

prompt -> prompt, or question    class_mapping -> class_mapping    config.x -> x
"""

from collections.abc import Mapping
from typing import Any

from api.inference.request import InferenceRequest
from fleet.card import Card
from fleet.errors import ValidationFailed

#: What a task may call what it is asked. A `prompt` also goes before the captions of models that take no questions.
QUESTIONS = ("prompt", "question")
#: Of members that the task does not know: an answer is no place for a million of them.
_TOLD = 20


def params_of(asked: InferenceRequest, card: Card, *, named_by_import: bool = False) -> dict[str, Any]:
    """`named_by_import`: the model got its class names from this request's mapping, so a task without one takes it.

    Raises ValidationFailed with a pointer to each field that the task does not know.
    """
    known = known_params(card)
    # Clients with a form send every field, empty or not.
    params = {name: value for name, value in asked.config.items() if value is not None}
    unknown = [name for name in params if name not in known]
    faults = [
        _fault(f"#/config/{name}", f"{name!r} is nothing that the task {card.task!r} knows; {_has(known)}")
        for name in unknown[:_TOLD]
    ]
    if asked.prompt is not None:
        question = question_of(card)
        if question is None:
            faults.append(_fault("#/prompt", f"the task {card.task!r} takes no prompt"))
        elif question in params:
            faults.append(_fault("#/prompt", f"`prompt` and `config.{question}` are the same: say one of them"))
        else:
            params[question] = asked.prompt
    if asked.class_mapping:
        if "class_mapping" in params:
            faults.append(_fault("#/class_mapping", "it is said twice: here, and in `config`"))
        elif "class_mapping" in known:
            params["class_mapping"] = dict(asked.class_mapping)
        elif not named_by_import:
            faults.append(_fault("#/class_mapping", f"the task {card.task!r} has no classes to name"))
    if faults:
        told = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in faults[:3])
        raise ValidationFailed(f"the request does not fit the model {card.name!r}: {told}", faults)
    return params


def known_params(card: Card) -> Mapping[str, Any]:
    properties = card.params_schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def question_of(card: Card) -> str | None:
    """What the task calls what it is asked; None where it is asked nothing."""
    return next((name for name in QUESTIONS if name in known_params(card)), None)


def _has(known: Mapping[str, Any]) -> str:
    return f"it has {', '.join(known)}" if known else "it has nothing to be said"


def _fault(pointer: str, detail: str) -> dict[str, str]:
    return {"detail": detail, "pointer": pointer}
