"""What a request is told of params that do not fit: the place within them, and what is allowed there."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.cards import CheckedCard
from fleet.errors import ValidationFailed
from tests.support.front_door import card
from worker.detection.params import DetectionParams


def faults(params: dict[str, Any]) -> list[tuple[str, str]]:
    schema = DetectionParams.model_json_schema()
    checked = CheckedCard(card(params_schema=schema), Draft202012Validator(schema))
    with pytest.raises(ValidationFailed) as refused:
        checked.check_params(params)
    return [(fault["pointer"], fault["detail"]) for fault in refused.value.errors]


def test_the_place_within_a_param_is_named() -> None:
    assert faults({"tiles": {"overlap": 1}}) == [
        ("#/params/tiles/overlap", "1 is greater than or equal to the maximum of 1")
    ]
    assert faults({"augment": {"scales": [1, 2]}}) == [
        ("#/params/augment/scales/1", "2 is greater than the maximum of 1")
    ]
    assert [place for place, _ in faults({"tiles": {"size": [1, 2]}})] == [
        "#/params/tiles/size/0",
        "#/params/tiles/size/1",
    ]


def test_what_is_allowed_is_named() -> None:
    ((place, detail),) = faults({"tiles": {"merge": "soft"}})
    assert place == "#/params/tiles/merge"
    assert "'greedy_nmm'" in detail
    ((place, detail),) = faults({"tiles": {"siz": 640}})
    assert place == "#/params/tiles"
    assert "known are: class_agnostic, merge, metric, overlap, size" in detail


def test_a_value_of_no_type_that_is_taken_is_a_fault_of_the_whole() -> None:
    places = [place for place, _ in faults({"tiles": 5, "confidence": "high"})]
    assert sorted(places) == ["#/params/confidence", "#/params/tiles"]
