"""Inputs beside their job's row: they come with it, go with its success, and else stay as long as it does."""

from collections.abc import Iterator
from typing import Any

import pytest

from fleet.contracts import JobInput, JobState
from fleet.errors import CorruptInput, IntegrityError, NotFound
from fleet.job_values import Claim
from fleet.kept_inputs import KeptInputs, described
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job
from tests.support.sweeping import NOTHING, Sweeping, sweeping_of
from tests.support.waiting import eventually

#: With a NUL, a quote and a backslash: not a text.
CONTENTS = {1: b"\x00'\\\xff" * 30_000, 3: b"b"}
INPUTS = [
    JobInput(kept=described(CONTENTS[number], None, "image/png")) if number in CONTENTS else JobInput()
    for number in range(4)
]
KEPT = {number: INPUTS[number].kept for number in CONTENTS}


@pytest.fixture
def scene(settings: Settings) -> Iterator[Sweeping]:
    with sweeping_of(settings) as opened:
        yield opened


def contents(scene: Sweeping, job_id: Any) -> dict[int, bytes]:
    return KeptInputs(scene.database).contents(job_id, {number: kept for number, kept in KEPT.items() if kept})


def claimed(scene: Sweeping, **changes: Any) -> Claim:
    job = scene.jobs.submit(new_job(inputs=INPUTS, kept=CONTENTS, **changes)).job
    claim = scene.jobs.claim(job.id, "w", 30.0)
    assert claim is not None
    return claim


def test_they_are_read_as_they_were_stored(scene: Sweeping) -> None:
    assert contents(scene, claimed(scene).job.id) == CONTENTS


def test_a_submit_that_is_repeated_stores_them_once(scene: Sweeping) -> None:
    new = new_job(inputs=INPUTS, kept=CONTENTS)
    assert scene.jobs.submit(new).job.id == scene.jobs.submit(new).job.id
    assert scene.rows("job_input") == len(CONTENTS)


def test_a_job_that_is_not_stored_leaves_none(scene: Sweeping) -> None:
    with pytest.raises(NotFound):
        scene.jobs.submit(new_job(inputs=INPUTS, kept=CONTENTS, uploads=[new_job().id]))
    first = new_job(inputs=INPUTS, kept=CONTENTS, idempotency_key="a", fingerprint="b")
    again = new_job(inputs=INPUTS, kept=CONTENTS, idempotency_key="a", fingerprint="b")
    assert scene.jobs.submit(first).job.id == scene.jobs.submit(again).job.id
    assert scene.rows("job_input") == len(CONTENTS)


def test_success_takes_them_along_and_only_that_of_the_current_attempt(scene: Sweeping) -> None:
    old = claimed(scene)
    scene.database.run("update job set lease_until = clock_timestamp() - interval '1 s'")
    new = scene.jobs.claim(old.job.id, "other", 30.0)
    assert new is not None
    finish = {"result": {}, "artifacts": [], "inputs": INPUTS, "ending": NOTHING}
    assert scene.jobs.finish(old.job, **finish) is None
    assert contents(scene, old.job.id) == CONTENTS
    ended = scene.jobs.finish(new.job, **finish)
    assert ended is not None
    assert (ended.state, ended.inputs) == (JobState.SUCCEEDED, INPUTS)
    assert scene.rows("job_input") == 0
    with pytest.raises(NotFound) as gone:
        contents(scene, old.job.id)
    assert gone.value.code == "input-gone"


def test_a_job_that_failed_can_be_run_again_with_them(scene: Sweeping) -> None:
    claim = claimed(scene)
    assert scene.jobs.fail(claim.job, CorruptInput("cut short"), NOTHING) is not None
    assert scene.jobs.retry(claim.job.id, "default").state is JobState.QUEUED
    assert contents(scene, claim.job.id) == CONTENTS


def test_they_go_with_the_row(scene: Sweeping) -> None:
    claim = claimed(scene)
    scene.jobs.stop(claim.job, JobState.CANCELLED, None, NOTHING)
    scene.delete(claim.job)
    assert scene.retention.forget([claim.job.id], []) == 1
    assert scene.rows("job_input") == 0


def test_bytes_that_changed_are_noticed(scene: Sweeping) -> None:
    claim = claimed(scene)
    scene.database.run("update job_input set content = 'x' where number = 3")
    with pytest.raises(IntegrityError, match="input 3"):
        contents(scene, claim.job.id)


def test_room_of_inputs_that_are_gone_is_used_again(scene: Sweeping) -> None:
    def pages() -> int:
        (row,) = scene.database.run(
            "select pg_relation_size(reltoastrelid) as n from pg_class where relname='job_input'"
        )
        return int(row["n"])

    def round_of_jobs() -> int:
        for _ in range(10):
            job = claimed(scene).job
            assert scene.jobs.finish(job, result={}, artifacts=[], inputs=INPUTS, ending=NOTHING) is not None
        return pages()

    kept = KeptInputs(scene.database)
    while_live = claimed(scene)
    first = round_of_jobs()
    for _ in range(4):
        # The server's statistics say of it within a second or so.
        eventually(kept.free_room)
        assert round_of_jobs() < 2 * first
    assert contents(scene, while_live.job.id) == CONTENTS
    scene.sweeper.free_inputs()


def test_little_room_is_left_to_the_server(scene: Sweeping) -> None:
    claim = claimed(scene)
    assert scene.jobs.finish(claim.job, result={}, artifacts=[], inputs=INPUTS, ending=NOTHING) is not None
    scene.database.run("select pg_stat_force_next_flush()")
    assert not KeptInputs(scene.database).free_room()
