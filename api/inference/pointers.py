"""Faults of a job's request, said in the words of the request that the job came of: `#/inputs/0/data` is `#/image`."""

import copy
import re
from collections.abc import Sequence
from typing import TypeVar

from api.inference.params import QUESTIONS
from fleet.errors import FleetError, ValidationFailed

E = TypeVar("E", bound=FleetError)
_INPUT = re.compile(r"#/inputs(?:/([0-9]{1,6})(?:/(?:data|url|upload|object|prefix))?)?(?![A-Za-z0-9_])")
_PARAM = re.compile(r"#/params/([A-Za-z0-9_]+)")
_MODEL = re.compile(r"#/model(?![A-Za-z0-9_])")
_FIELDS = {"class_mapping": "#/class_mapping"}


def respelled(error: E, inputs: Sequence[str], *, question: str | None = None) -> E:
    """`inputs` are the pointers of the request's pictures; `question` is the param that its prompt became."""
    told = copy.copy(error)
    told.message = _spelled(error.message, inputs, question)
    told.args = (told.message,)
    if isinstance(error, ValidationFailed):
        assert isinstance(told, ValidationFailed)  # noqa: S101 (a copy)
        told.errors = [
            {name: _spelled(text, inputs, question) for name, text in fault.items()} for fault in error.errors
        ]
    return told


def _spelled(text: str, inputs: Sequence[str], question: str | None) -> str:
    def of_input(found: re.Match[str]) -> str:
        number = int(found[1] or 0)
        return inputs[number] if number < len(inputs) else "#/image"

    def of_param(found: re.Match[str]) -> str:
        name = found[1]
        if name == question and name in QUESTIONS:
            return "#/prompt"
        return _FIELDS.get(name, f"#/config/{name}")

    return _MODEL.sub("#/model_id", _PARAM.sub(of_param, _INPUT.sub(of_input, text)))
