"""A load through /v2, with workers that only say what they made of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.catalogue import ModelState
from fleet.contracts import Lane
from fleet.model_records import Desired, ModelRecords
from tests.support.front_door import Door, worker_row
from tests.support.waiting import eventually

LOAD = "/v2/repository/models/pair/load"
CONFIG = {"parameters": {"config": '{"max_batch_size": 2}'}}


@pytest.fixture
def records(door: Door) -> Iterator[ModelRecords]:
    yield door.core.models.records
    door.core.models.records.forget_desire("pair", 1)


def desired(records: ModelRecords) -> Desired:
    found: list[Desired] = []
    eventually(lambda: found.extend(records.desires()) or bool(found))
    return found[-1]


def told(door: Door, asked: Desired, reason: str) -> None:
    state = ModelState(state="UNAVAILABLE", reason=reason, generation=asked.generation)
    row = worker_row(models=["pair/1"], lanes=[Lane.INTERACTIVE], model_states={"pair/1": state})
    door.core.catalogue.announce_worker(row)


def test_workers_of_another_lane_are_not_waited_for(door: Door, records: ModelRecords) -> None:
    door.core.catalogue.announce_worker(worker_row("bulk", models=["pair/1"], lanes=[Lane.BULK]))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(door.http.post, LOAD, json=CONFIG, timeout=60)
        told(door, desired(records), "it does not fit")
        refused = answer.result()
    assert (refused.status_code, refused.json()["error"]) == (
        503,
        "failed to load 'pair/1': w1: UNAVAILABLE it does not fit",
    )
    # No worker that starts later goes by it.
    assert records.desires() == []
    assert door.http.get("/v2/models/pair/ready").status_code == 400
    door.core.catalogue.announce_worker(worker_row(models=["pair/1"], draining=True))
    assert "no live worker holds it" in door.http.get("/v2/models/pair/ready").json()["error"]


def test_a_wish_that_failed_takes_back_nothing_that_was_asked_for_since(records: ModelRecords) -> None:
    first = records.desire("pair", 1, "loaded", {"max_batch_size": 2})
    second = records.desire("pair", 1, "unloaded")
    records.take_back(first, None)
    records.take_back(first, first)
    assert records.desires() == [second]
    records.take_back(second, first)
    (again,) = records.desires()
    assert (again.desire, again.config) == ("loaded", {"max_batch_size": 2})
    records.take_back(again, None)
    assert records.desires() == []
    # What workers said of the one before is no word on this one.
    assert records.desire("pair", 1, "loaded").generation > again.generation > second.generation
