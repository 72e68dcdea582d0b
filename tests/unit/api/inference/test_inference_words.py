"""Names of tasks and networks, where a model comes from, and faults in the words of the request."""

from typing import Any, get_args

import pytest

from api.inference.bringing import _manifest, _on_github, _source
from api.inference.pointers import respelled
from api.inference.request import InferenceRequest, pictures
from api.inference.tasks import FAMILIES, MODEL_TYPES, TASKS, check_task, family_of_type, task_named, task_of_type
from fleet.errors import UrlRefused, ValidationFailed
from tests.support.front_door import card
from worker.detection.settings import FamilyName
from worker.tasks import find_tasks


def asked(**fields: Any) -> InferenceRequest:
    return InferenceRequest.model_validate(fields)


def test_every_spelling_means_a_task_that_there_is() -> None:
    assert {*TASKS.values(), *MODEL_TYPES.values()} <= find_tasks().keys()


def test_every_family_is_one_that_a_detector_can_be_told_to_be() -> None:
    assert set(FAMILIES.values()) <= set(get_args(FamilyName))


@pytest.mark.parametrize(
    ("said", "task"),
    [("classification", "image-classification"), ("Object_Detection", "object-detection"), ("VQA", "visual-qa")],
)
def test_a_task_is_known_by_several_names(said: str, task: str) -> None:
    assert task_named(said) == task
    check_task(said, None, card(task=task))


@pytest.mark.parametrize(("said", "task"), [("YOLOv8", "object-detection"), ("blip", "visual-qa")])
def test_a_kind_of_network_says_what_it_does(said: str, task: str) -> None:
    assert task_of_type(said) == task
    assert (family_of_type("yolo_nas"), family_of_type(said)) == ("yolo-nas", None)


def test_a_task_of_ones_own_is_understood_as_it_is_called() -> None:
    check_task("echo", None, card(task="echo"))
    with pytest.raises(ValidationFailed) as refused:
        check_task("echo", None, card(task="segmentation"))
    assert refused.value.code == "task-unknown"


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        ({}, "local"),
        ({"checkpoint_url": "https://example.com/m.onnx"}, "trained"),
        ({"model_source": "trained"}, "local"),
        ({"model_source": "HF"}, "huggingface"),
        ({"model_source": "github", "checkpoint_url": "https://github.com/a/b/blob/main/m.onnx"}, "github"),
    ],
)
def test_where_a_model_comes_from(fields: dict[str, Any], source: str) -> None:
    assert _source(asked(**fields)) == source


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://github.com/a/b/blob/main/dir/m.onnx", ("a/b", "main", "dir/m.onnx", None)),
        ("https://github.com/a/b/raw/v1/m.onnx", ("a/b", "v1", "m.onnx", None)),
        ("https://github.com/a/b/releases/download/v1.0/m.onnx", ("a/b", "v1.0", None, "m.onnx")),
    ],
)
def test_a_file_of_github_is_known_by_its_url(url: str, found: tuple[str, str, str | None, str | None]) -> None:
    source = _on_github(url)
    assert (source.repository, source.ref, source.path, source.asset) == found


@pytest.mark.parametrize(
    "url", [None, "https://example.com/m.onnx", "https://github.com/a/b", "https://github.com/a b/c/blob/main/m",
            "https://github.com/a/b/blob/main/../m"]
)  # fmt: skip
def test_what_is_no_file_of_github_is_refused(url: str | None) -> None:
    with pytest.raises(ValidationFailed) as refused:
        _on_github(url)
    assert refused.value.errors[0]["pointer"] == "#/checkpoint_url"


def test_a_text_that_the_record_cannot_hold_is_refused_in_the_place_of_a_model_too() -> None:
    with pytest.raises(ValueError, match="NUL"):
        asked(checkpoint_url="https://github.com/a/b/blob/ma\0in/m.onnx")


def test_a_kind_of_network_says_what_a_model_that_is_brought_in_is_to_do() -> None:
    assert _manifest(asked(model_type="yolox")) == {
        "task": "object-detection", "lane": "interactive", "pipeline": {"family": "yolox"}
    }  # fmt: skip
    assert _manifest(asked(task="vqa")) == {"task": "visual-qa", "lane": "interactive"}


def test_faults_lead_into_the_request_as_it_was_written() -> None:
    given = asked(images=["aGk=", "https://example.com/a.png"])
    pointers = [one.pointer for one in pictures(given)]
    refused = UrlRefused("#/inputs/1/url: no", code="address-refused", host="h")
    told = respelled(refused, pointers)
    assert (told.message, str(told), told.code, told.facts) == ("#/images/1: no",) * 2 + (
        "address-refused",
        {"host": "h"},
    )
    assert refused.message == "#/inputs/1/url: no"
    faults = [{"detail": "too small", "pointer": f"#/params/{name}"} for name in ("top_k", "class_mapping", "prompt")]
    told = respelled(ValidationFailed("#/params/top_k: too small", faults), pointers, question="prompt")
    assert told.message == "#/config/top_k: too small"
    assert [fault["pointer"] for fault in told.errors] == ["#/config/top_k", "#/class_mapping", "#/prompt"]
