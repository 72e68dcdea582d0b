"""Which jobs of one picture may become a part of another, and which of them of the same one."""

import base64
from typing import Any

import pytest

from api.inference.picture_jobs import Wanted
from api.inference.shared_pictures import MAX_BYTES, Shareable, shareable
from api.requests import JobRequest
from api.submission import Caller
from fleet.contracts import DevicePolicy, Lane, MediaKind, Pool, ResultKind
from fleet.errors import ValidationFailed
from fleet.routing import Member
from tests.support.front_door import card

PICTURE = base64.b64encode(b"a picture").decode()
MODELS = frozenset({"looker/1"})
MEMBERS = [
    Member("gpu", Pool.GPU, (Lane.INTERACTIVE,), 1, models=MODELS),
    Member("cpu", Pool.CPU, (Lane.INTERACTIVE, Lane.BULK), 2, models=MODELS),
    Member("cpu-2", Pool.CPU, (Lane.INTERACTIVE,), 2, models=MODELS),
    Member("cpu-bulk", Pool.CPU, (Lane.BULK,), 2, models=MODELS),
    Member("cpu-other", Pool.CPU, (Lane.INTERACTIVE,), 2, models=frozenset({"other/1"})),
]


def found(
    *inputs: Any,
    tenant: str = "alice",
    pointer: str = "#/image",
    question: str | None = None,
    card_of: dict[str, Any] | None = None,
    **fields: Any,
) -> Shareable | None:
    about: dict[str, Any] = {"accepts": MediaKind.IMAGE, "returns": ResultKind.ITEMS, **(card_of or {})}
    request = JobRequest.model_validate({"model": "looker", "version": 1, "inputs": inputs, **fields})
    wanted = Wanted(request, Caller(tenant), [pointer] * len(inputs), question)
    return shareable(wanted, 10.0, card("looker", **about), MEMBERS)


def key(picture: str = PICTURE, **fields: Any) -> Any:
    one = found({"data": picture}, **fields)
    assert one is not None
    return one.key


def test_the_picture_and_its_name_alone_may_differ() -> None:
    assert key() == key(base64.b64encode(b"another").decode()) == key("data:image/png;base64," + PICTURE)
    named = found({"data": PICTURE, "name": "cat.png"}, params={"a": 1, "b": 2})
    assert named is not None
    assert named.key == key(params={"b": 2, "a": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "other"},
        {"version": 2},
        {"params": {"top_k": 1}},
        {"when_no_worker": "refuse"},
        {"priority": "high"},
        {"labels": {"for": "me"}},
        {"tenant": "bob"},
        {"pointer": "#/image_base64"},
        {"question": "prompt"},
    ],
)
def test_whatever_else_differs_makes_another_job(fields: dict[str, Any]) -> None:
    assert key(**fields) != key()


def test_numbers_that_python_calls_equal_are_other_params() -> None:
    assert len({key(params={"top_k": value}) for value in (1, 1.0, True)}) == 3


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [
        ([], {}),
        ([{"data": PICTURE}, {"data": PICTURE}], {}),
        ([{"url": "https://example.com/a.png"}], {}),
        ([{"data": base64.b64encode(bytes(MAX_BYTES + 3)).decode()}], {}),
        ([{"data": base64.b64encode(b"PK\x03\x04...").decode()}], {}),
        ([{"data": PICTURE}], {"params": {"preview": True}}),
        ([{"data": PICTURE}], {"params": {"tiles": {}}}),
        ([{"data": PICTURE}], {"params": {"vectors": "npy"}}),
        ([{"data": PICTURE}], {"card_of": {"accepts": MediaKind.VOLUME}}),
        ([{"data": PICTURE}], {"card_of": {"returns": ResultKind.JSON}}),
    ],
)
def test_others_have_a_job_of_their_own(inputs: list[Any], fields: dict[str, Any]) -> None:
    assert found(*inputs, **fields) is None


@pytest.mark.parametrize("text", ["not base64!", "", "data:image/png,plain"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed, match="#/inputs/0/data"):
        found({"data": text})


@pytest.mark.parametrize(
    ("device", "workers"),
    [
        (DevicePolicy.GPU_ONLY, 1),
        (DevicePolicy.CPU_ONLY, 2),
        (DevicePolicy.PREFER_GPU, 1),
        (DevicePolicy.ANY, 3),
    ],
)
def test_the_workers_are_those_that_the_job_may_go_to(device: DevicePolicy, workers: int) -> None:
    one = found({"data": PICTURE}, card_of={"device": device})
    assert one is not None
    assert (one.workers, one.size) == (workers, len(b"a picture"))
