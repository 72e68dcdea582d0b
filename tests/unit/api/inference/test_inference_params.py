"""What a request says besides its pictures, as params of the task that the model has."""

from typing import Any

import pytest

from api.inference.params import params_of
from api.inference.request import InferenceRequest
from fleet.card import Card
from fleet.errors import ValidationFailed
from tests.support.front_door import card
from worker.classification.settings import ClassificationParams
from worker.detection.params import DetectionParams
from worker.embedding.settings import ImageEmbeddingParams
from worker.vqa.settings import VqaParams

SCHEMAS = {
    "classification": ClassificationParams,
    "detection": DetectionParams,
    "embedding": ImageEmbeddingParams,
    "visual-qa": VqaParams,
}


def of(task: str) -> Card:
    """With the very schema that a worker announces."""
    return card(task=task, params_schema=SCHEMAS[task].model_json_schema())


def asked(**fields: Any) -> InferenceRequest:
    return InferenceRequest.model_validate(fields)


@pytest.mark.parametrize(
    ("task", "fields", "params"),
    [
        ("classification", {"config": {"top_k": 3, "confidence": 0.5}}, {"top_k": 3, "confidence": 0.5}),
        ("detection", {"config": {"confidence": 0.5, "top_k": None}}, {"confidence": 0.5}),
        ("embedding", {"config": {"normalize": True}}, {"normalize": True}),
        ("visual-qa", {"prompt": "How many?"}, {"prompt": "How many?"}),
        ("visual-qa", {"config": {"question": "How many?"}}, {"question": "How many?"}),
        ("detection", {"class_mapping": {"0": "cat"}}, {"class_mapping": {"0": "cat"}}),
        ("classification", {"class_mapping": ["cat", "dog"]}, {"class_mapping": {"0": "cat", "1": "dog"}}),
        ("detection", {"config": {"preview": True, "quality": True}}, {"preview": True, "quality": True}),
    ],
)
def test_fields_become_the_params_of_the_task(task: str, fields: dict[str, Any], params: dict[str, Any]) -> None:
    assert params_of(asked(**fields), of(task)) == params


@pytest.mark.parametrize(
    ("task", "fields", "pointers"),
    [
        ("detection", {"config": {"top_k": 3, "normalize": True}}, ["#/config/top_k", "#/config/normalize"]),
        ("classification", {"config": {"normalize": False}}, ["#/config/normalize"]),
        ("classification", {"prompt": "What?"}, ["#/prompt"]),
        ("embedding", {"class_mapping": {"0": "cat"}}, ["#/class_mapping"]),
        ("visual-qa", {"prompt": "a", "config": {"prompt": "b"}}, ["#/prompt"]),
        ("detection", {"class_mapping": ["a"], "config": {"class_mapping": {"0": "b"}}}, ["#/class_mapping"]),
    ],
)
def test_what_the_task_does_not_know_is_told_field_by_field(
    task: str, fields: dict[str, Any], pointers: list[str]
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        params_of(asked(**fields), of(task))
    assert [fault["pointer"] for fault in refused.value.errors] == pointers


def test_of_many_unknown_params_the_first_are_told() -> None:
    with pytest.raises(ValidationFailed) as refused:
        params_of(asked(config={f"odd{number}": number for number in range(1000)}), of("detection"))
    assert [fault["pointer"] for fault in refused.value.errors] == [f"#/config/odd{number}" for number in range(20)]


def test_a_model_that_was_named_when_it_came_in_takes_the_mapping_without_a_param_for_it() -> None:
    fields = asked(class_mapping={"0": "cat"})
    assert params_of(fields, of("embedding"), named_by_import=True) == {}
    assert params_of(fields, of("detection"), named_by_import=True) == {"class_mapping": {"0": "cat"}}
