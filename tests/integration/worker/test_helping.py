"""What a worker takes for a request for help: read from the real row, only when it is fresh, only where it may."""

from collections.abc import Iterator

import pytest

from fleet.contracts import Lane, Pool
from fleet.database import Database
from fleet.settings import Settings
from fleet.traffic import TrafficBoard
from tests.support.fleet_of_one import new_job
from tests.support.helped_out import WHY, Record, record_of
from worker.helping import Helping

LOW = "gpu.bulk.low"


@pytest.fixture
def record(settings: Settings) -> Iterator[Record]:
    with record_of(settings) as opened:
        yield opened


def helping_on(record: Record, board: TrafficBoard | None = None) -> Helping:
    return Helping(board or record.board, worker="w1", lanes=[Lane.BULK], willing=True)


def test_it_is_asked_by_its_name(record: Record) -> None:
    helping = helping_on(record)
    helping.look()
    assert helping.asked == frozenset(), "nobody has looked yet"
    record.ask("w1", LOW)
    helping.look()
    assert helping.asked == {LOW}
    record.ask("w2", LOW)
    helping.look()
    assert helping.asked == frozenset()


def test_it_goes_nowhere_but_to_the_open_queues_of_its_lanes(record: Record) -> None:
    helping = helping_on(record)
    record.ask("w1", LOW, "gpu-only.bulk.low", "gpu.interactive.low", "cpu.bulk.low", "celery", "gpu.bulk.soon")
    helping.look()
    assert helping.asked == {LOW}


def test_an_old_row_changes_nothing(record: Record) -> None:
    helping = helping_on(record)
    record.ask("w1", LOW)
    helping.look()
    record.ask("w1")
    record.database.run("UPDATE traffic SET at = at - interval '16 seconds'")
    helping.look()
    assert helping.asked == {LOW}


def test_a_record_that_is_away_changes_nothing(record: Record, settings: Settings) -> None:
    with Database(settings.database_dsn) as database:
        helping = helping_on(record, TrafficBoard(database))
        record.ask("w1", LOW)
        helping.look()
    helping.look()
    assert helping.asked == {LOW}


def test_the_reason_is_the_one_last_given_for_the_queue(record: Record) -> None:
    helping = helping_on(record)
    of_the_gpus = record.jobs.submit(new_job(pool=Pool.GPU, lane=Lane.BULK, route_reason="a GPU worker is alive")).job
    own = record.jobs.submit(new_job(lane=Lane.BULK, route_reason="the model runs on a CPU only")).job
    queue = "gpu.bulk.normal"
    assert helping.why(of_the_gpus, Pool.CPU) == "a GPU worker is alive"
    record.ask("w1", queue)
    helping.look()
    assert helping.why(of_the_gpus, Pool.CPU) == WHY
    assert helping.why(of_the_gpus, Pool.GPU) == "a GPU worker is alive"
    assert helping.why(own, Pool.CPU) == "the model runs on a CPU only"
    record.ask("w1")
    helping.look()
    assert helping.why(of_the_gpus, Pool.CPU) == WHY, "a message may arrive after the queue was left"


def test_how_long_it_has_been_helping_begins_anew_with_each_joining(record: Record) -> None:
    now = 0.0
    helping = Helping(record.board, worker="w1", lanes=[Lane.BULK], willing=True, clock=lambda: now)
    assert not helping.joined_within(LOW, 5.0), "it does not help there"
    helping.note_joined(LOW)
    assert helping.joined_within(LOW, 5.0)
    now = 5.0
    assert not helping.joined_within(LOW, 5.0)
    helping.note_left(LOW)
    helping.note_joined(LOW)
    assert helping.joined_within(LOW, 5.0)
    assert helping.joined == [LOW]
