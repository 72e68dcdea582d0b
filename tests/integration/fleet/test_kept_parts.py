"""Parts that outlive an attempt: found by the next ones, never another's, never half of one, and gone with the job."""

from collections.abc import Callable, Iterator

import pytest

from fleet.contracts import Job, JobState
from fleet.ids import new_id
from fleet.outbox import Outbox
from fleet.parts import part_key, part_of, parts_prefix
from fleet.settings import Settings
from tests.support.sweeping import FATAL, NOTHING, Sweeping, sweeping_of

ORIGIN, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def scene(settings: Settings) -> Iterator[Sweeping]:
    with sweeping_of(settings) as opened:
        yield opened


def lapse(scene: Sweeping) -> None:
    scene.database.run("update job set lease_until = clock_timestamp() - interval '1 s' where lease_until is not null")
    assert Outbox(scene.database).lapse_leases()


def read(scene: Sweeping, job: Job, name: str = "one", origin: str = ORIGIN) -> bytes | None:
    """As an attempt that begins now."""
    kept = scene.parts.kept(job.id, origin).get(name)
    return None if kept is None else scene.parts.read(kept)


def key_of(job: Job, name: str = "one") -> str:
    return part_key(job.id, job.attempt, ORIGIN, name)


def stored(scene: Sweeping, job: Job) -> list[str]:
    return [key.removeprefix(parts_prefix(job.id)) for key in scene.objects.keys(parts_prefix(job.id))]


def test_what_an_attempt_kept_is_found_by_the_next(scene: Sweeping) -> None:
    first = scene.claimed()
    assert scene.parts.keep(first.job, ORIGIN, "one", b"first") is True
    lapse(scene)
    second = scene.claimed(first.job)
    assert read(scene, second.job) == b"first"
    assert read(scene, second.job, "two") is None
    assert scene.parts.keep(second.job, ORIGIN, "two", b"second") is True
    assert set(scene.parts.kept(first.job.id, ORIGIN)) == {"one", "two"}


def test_a_part_that_came_of_something_else_is_not_found(scene: Sweeping) -> None:
    claim = scene.claimed()
    scene.parts.keep(claim.job, ORIGIN, "one", b"first")
    assert scene.parts.kept(claim.job.id, OTHER) == {}
    assert scene.parts.kept(scene.claimed().job.id, ORIGIN) == {}


def test_a_worker_that_lost_its_lease_keeps_nothing_and_leaves_nothing(scene: Sweeping) -> None:
    stale = scene.claimed()
    lapse(scene)
    assert scene.parts.keep(stale.job, ORIGIN, "one", b"stale") is False, "the job waits"
    current = scene.claimed(stale.job)
    scene.parts.keep(current.job, ORIGIN, "one", b"right")
    assert scene.parts.keep(stale.job, ORIGIN, "one", b"stale") is False, "the job is another's"
    assert read(scene, current.job) == b"right"
    assert stored(scene, current.job) == ["2/aaaaaaaaaaaaaaaa/one"]
    scene.finish(current, [])
    assert scene.parts.keep(current.job, ORIGIN, "one", b"late") is False, "the job has ended"


def test_the_object_of_a_stale_worker_lies_beside_and_changes_nothing(scene: Sweeping) -> None:
    stale = scene.claimed()
    lapse(scene)
    current = scene.claimed(stale.job)
    scene.parts.keep(current.job, ORIGIN, "one", b"right")
    # Killed between its object and its row.
    scene.objects.put_bytes(key_of(stale.job), b"stale", media_type="text/plain", name="one")
    assert read(scene, current.job) == b"right"


@pytest.mark.parametrize("content", [b"", b"fir", b"first and more", b"tsrif"])
def test_a_part_that_is_not_what_was_kept_is_not_there(scene: Sweeping, content: bytes) -> None:
    claim = scene.claimed()
    scene.parts.keep(claim.job, ORIGIN, "one", b"first")
    scene.objects.put_bytes(key_of(claim.job), content, media_type="text/plain", name="one")
    assert read(scene, claim.job) is None


def test_a_part_whose_object_is_gone_is_not_there_and_can_be_kept_anew(scene: Sweeping) -> None:
    first = scene.claimed()
    scene.parts.keep(first.job, ORIGIN, "one", b"first")
    scene.objects.remove(key_of(first.job))
    lapse(scene)
    second = scene.claimed(first.job)
    assert read(scene, second.job) is None
    assert scene.parts.keep(second.job, ORIGIN, "one", b"again") is True
    assert read(scene, second.job) == b"again"


def succeed(scene: Sweeping, job: Job) -> None:
    assert scene.jobs.finish(job, result={}, artifacts=[], inputs=[], ending=NOTHING)


def fail(scene: Sweeping, job: Job) -> None:
    assert scene.jobs.fail(job, FATAL, NOTHING)


def stop(scene: Sweeping, job: Job) -> None:
    assert scene.jobs.stop(job, JobState.EXPIRED, FATAL, NOTHING)


def hand_back_and_cancel(scene: Sweeping, job: Job) -> None:
    assert scene.jobs.hand_back(job, "drained")
    assert scene.jobs.cancel(job.id, "default").state is JobState.CANCELLED


@pytest.mark.parametrize("end", [succeed, fail, stop, hand_back_and_cancel])
def test_parts_go_when_the_job_has_ended_however_it_ended(
    scene: Sweeping, end: Callable[[Sweeping, Job], None]
) -> None:
    ended, running, queued = scene.claimed(), scene.claimed(), scene.claimed()
    for claim in (ended, running, queued):
        for name in ("one", "two"):
            scene.parts.keep(claim.job, ORIGIN, name, b"first")
    assert scene.jobs.hand_back(queued.job, "drained")
    scene.sweeper.remove_parts()
    assert scene.rows("job_part") == 6, "none has ended"
    end(scene, ended.job)
    scene.sweeper.remove_parts()
    assert stored(scene, ended.job) == []
    assert scene.did("part-removed") == 2
    for live in (running.job, queued.job):
        assert read(scene, live) == b"first"
    assert scene.rows("job_part") == 4


def test_a_job_that_is_retried_while_its_parts_are_removed_keeps_what_it_makes_from_then_on(scene: Sweeping) -> None:
    first = scene.claimed()
    scene.parts.keep(first.job, ORIGIN, "one", b"first")
    fail(scene, first.job)
    (needless,) = scene.parts.needless(10)
    scene.jobs.retry(first.job.id, "default")
    second = scene.claimed(first.job)
    scene.parts.keep(second.job, ORIGIN, "two", b"second")
    assert scene.parts.remove(needless) == 1
    assert (read(scene, second.job, "one"), read(scene, second.job, "two")) == (None, b"second")
    assert scene.parts.needless(10) == []


def test_a_deleted_job_takes_its_parts_along(scene: Sweeping) -> None:
    claim, other = scene.claimed(), scene.claimed()
    for job in (claim.job, other.job):
        scene.parts.keep(job, ORIGIN, "one", b"first")
    succeed(scene, claim.job)
    assert scene.removal.delete(claim.job.id, "default", 20.0) is True
    assert (stored(scene, claim.job), scene.is_there(claim.job), scene.rows("job_part")) == ([], False, 1)
    assert read(scene, other.job) == b"first"


def test_a_job_that_is_deleted_while_it_runs_takes_along_what_it_keeps_until_it_stops(scene: Sweeping) -> None:
    claim = scene.claimed()
    scene.parts.keep(claim.job, ORIGIN, "one", b"first")
    assert scene.removal.delete(claim.job.id, "default", 20.0) is False, "its worker has not stopped"
    scene.parts.keep(claim.job, ORIGIN, "two", b"second")
    assert scene.jobs.stop(claim.job, JobState.CANCELLED, None, NOTHING)
    scene.sweeper.remove_hidden()
    assert (stored(scene, claim.job), scene.is_there(claim.job), scene.rows("job_part")) == ([], False, 0)


def test_an_expired_job_takes_its_parts_along(scene: Sweeping) -> None:
    claim = scene.claimed()
    scene.parts.keep(claim.job, ORIGIN, "one", b"first")
    fail(scene, claim.job)
    scene.age(claim.job)
    scene.sweep()
    assert (stored(scene, claim.job), scene.is_there(claim.job), scene.rows("job_part")) == ([], False, 0)


def test_the_orphan_walk_takes_parts_of_ended_and_unknown_jobs_and_no_others(scene: Sweeping) -> None:
    first, ended, unknown = scene.claimed(), scene.claimed(), new_id()
    scene.parts.keep(first.job, ORIGIN, "one", b"first")
    lapse(scene)
    second, ended = scene.claimed(first.job), scene.claimed(ended.job)
    scene.parts.keep(second.job, ORIGIN, "two", b"second")
    fail(scene, ended.job)
    for key in (key_of(ended.job), part_key(unknown, 1, ORIGIN, "one")):
        scene.objects.put_bytes(key, b"nobody knows", media_type="text/plain", name="one")
    scene.walk()
    assert stored(scene, second.job) == ["1/aaaaaaaaaaaaaaaa/one", "2/aaaaaaaaaaaaaaaa/two"]
    assert stored(scene, ended.job) == scene.objects.keys(parts_prefix(unknown)) == []


@pytest.mark.parametrize(
    "key",
    [
        "results/01990000-0000-7000-8000-000000000001/1/parts",
        "results/01990000-0000-7000-8000-000000000001/parts/one/aa/b",
        "results/01990000-0000-7000-8000-000000000001/parts/1/aa",
        "results/nobody/parts/1/aa/b",
        "uploads/01990000-0000-7000-8000-000000000001/parts/1/aa/b",
    ],
)
def test_what_is_not_named_as_a_part_is_none(key: str) -> None:
    assert part_of(key) is None
