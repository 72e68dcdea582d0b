"""A request with millions of members that nobody knows is one fault, and not millions."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from api.inference.request import InferenceRequest
from api.model_requests import TrainedModel
from api.requests import JobRequest

MANY = {str(number): 1 for number in range(70_000)}
TRAINED = {"name": "a", "checkpoint_url": "https://example.com/m.onnx"}


@pytest.mark.parametrize(
    ("kind", "body", "where"),
    [
        (JobRequest, {"model": "a", **MANY}, ()),
        (JobRequest, {"model": "a", "labels": MANY}, ("labels",)),
        (JobRequest, {"model": "a", "inputs": [MANY]}, ("inputs", 0)),
        (InferenceRequest, MANY, ()),
        (InferenceRequest, {"image": MANY}, ("image",)),
        (InferenceRequest, {"class_mapping": MANY}, ("class_mapping",)),
        (InferenceRequest, {"class_mapping": [*MANY]}, ("class_mapping",)),
        (TrainedModel, {**TRAINED, "class_mapping": MANY}, ("class_mapping",)),
    ],
)
def test_of_too_many_members_none_is_judged(
    kind: type[BaseModel], body: dict[str, Any], where: tuple[Any, ...]
) -> None:
    with pytest.raises(ValidationError, match="at most") as refused:
        kind.model_validate(body)
    assert [fault["loc"] for fault in refused.value.errors()] == [where]
