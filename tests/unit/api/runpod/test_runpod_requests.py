"""Requests and jobs in RunPod's words."""

from typing import Any

import orjson
import pytest

from api.runpod.job import STATUS
from api.runpod.request import in_run, inference_of, read_run, wait_s
from fleet.contracts import JobState
from fleet.errors import MalformedRequest, ValidationFailed


def read(**body: Any) -> Any:
    return read_run(orjson.dumps(body))


@pytest.mark.parametrize("given", [{"a": 1}, {"input": {"a": 1}}, {"input": {"input": {"a": 1}}}])
def test_an_input_in_an_input_is_the_inner_one(given: dict[str, Any]) -> None:
    assert read(input=given).given == {"a": 1}


@pytest.mark.parametrize("given", [None, {}, [], "x", 0, {"input": {}}, {"input": None}, {"input": {"input": {}}}])
def test_an_input_that_says_nothing_is_refused(given: Any) -> None:
    with pytest.raises(ValidationFailed, match="`input` must be an object"):
        _ = read(input=given).given


def test_what_is_not_said_is_left_to_the_model() -> None:
    assert read(input={"a": 1}).job_fields("m") == {"labels": {"runpod-endpoint": "m"}, "priority": "normal"}


def test_milliseconds_become_seconds() -> None:
    policy = {"ttl": 10_000, "executionTimeout": 5_000, "lowPriority": True}
    fields = read(input={"a": 1}, policy=policy, webhook="https://example.com/").job_fields("default")
    assert (fields["deadline_s"], fields["execution_timeout_s"], fields["priority"]) == (10.0, 5.0, "low")
    assert fields["callback"] == {"url": "https://example.com/", "body": "runpod"}


@pytest.mark.parametrize(("text", "seconds"), [(None, 90), ("0", 1), ("1000", 1), ("2500", 2.5), ("999999", 300)])
def test_the_wait_has_bounds(text: str | None, seconds: float) -> None:
    assert wait_s(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "1" * 10, "²"])
def test_a_wait_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest):
        wait_s(text)


def test_the_endpoint_is_the_model() -> None:
    assert inference_of("cats@prod", {"image": "aGk="}).model_id == "cats@prod"
    assert inference_of("default", {"model_id": "dogs"}).model_id == "dogs"
    with pytest.raises(ValidationFailed, match="leave `model_id` out"):
        inference_of("cats", {"model_id": "dogs"})


def test_faults_lead_into_the_input_or_the_webhook() -> None:
    error = ValidationFailed("#/image: no; #/callback/url: no", [{"detail": "no", "pointer": "#/callback/url"}])
    told = in_run(error)
    assert told.message == "#/input/image: no; #/webhook: no"
    assert told.errors == [{"detail": "no", "pointer": "#/webhook"}]


def test_every_state_has_a_status() -> None:
    assert set(STATUS) == set(JobState)
