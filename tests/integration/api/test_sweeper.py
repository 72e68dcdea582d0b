"""The sweeper with a real bucket: objects first, rows last, and nothing that somebody still needs."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import SecretStr

from api.removal import Removal
from fleet.contracts import Artifact, JobState
from fleet.errors import DependencyError
from fleet.objects import ObjectStore
from fleet.outbox import Outbox
from fleet.settings import Settings
from tests.support.sweeping import NOTHING, Sweeping, sweeping_of
from tests.support.tcp_proxy import proxy_to


@pytest.fixture
def scene(settings: Settings) -> Iterator[Sweeping]:
    with sweeping_of(settings) as opened:
        yield opened


def port_of(settings: Settings) -> int:
    return int(settings.minio_endpoint.rpartition(":")[2])


def test_an_expired_job_goes_with_its_results_and_its_inputs(scene: Sweeping) -> None:
    upload = scene.upload()
    gone = scene.succeeded("mask.nii.gz", "preview.png", uploads=[upload], retention_s=0.001)
    kept = scene.succeeded("mask.nii.gz", uploads=[scene.upload()])
    scene.sweep()
    assert not scene.is_there(gone)
    assert scene.results(gone) == []
    assert upload not in scene.uploaded()
    assert scene.results(kept) == ["1/mask.nii.gz"]
    assert (len(scene.uploaded()), scene.rows("upload"), scene.rows("job")) == (1, 1, 1)
    told = [scene.did(action) for action in ("job-expired", "job-removed", "object-removed", "input-removed")]
    assert told == [1, 1, 3, 1]


@pytest.mark.parametrize("ending", ["succeeded", "failed", "cancelled", "expired"])
def test_a_deleted_job_goes_whatever_its_end_was(scene: Sweeping, ending: str) -> None:
    job = getattr(scene, ending)()
    scene.delete(job)
    scene.sweep()
    assert scene.rows("job") == 0


def test_all_attempts_of_a_job_go_with_it(scene: Sweeping) -> None:
    lost = scene.claimed(lease_s=0.0)
    scene.store(lost.job, "mask.nii.gz")
    assert Outbox(scene.database).lapse_leases()
    second = scene.claimed(lost.job)
    job = scene.finish(second, scene.store(second.job, "mask.nii.gz"))
    assert scene.results(job) == ["1/mask.nii.gz", "2/mask.nii.gz"]
    scene.delete(job)
    scene.sweep()
    assert scene.results(job) == []


def test_what_the_record_refers_to_outside_the_job_stays(scene: Sweeping) -> None:
    other = scene.succeeded("mask.nii.gz")
    claim = scene.claimed()
    (foreign,) = scene.jobs.get(other.id).artifacts
    job = scene.finish(claim, [Artifact(name="same.nii.gz", object=foreign.object)])
    scene.delete(job)
    scene.sweep()
    assert not scene.is_there(job)
    assert scene.results(other) == ["1/mask.nii.gz"]


def test_an_upload_goes_with_its_last_job(scene: Sweeping) -> None:
    upload = scene.upload()
    first, second = (scene.succeeded(uploads=[upload]) for _ in range(2))
    scene.delete(first)
    scene.sweep()
    assert scene.uploaded() == {upload}
    scene.delete(second)
    scene.sweep()
    assert scene.uploaded() == set()
    assert scene.rows("upload") == 0


def test_an_upload_whose_jobs_go_together_goes_with_them(scene: Sweeping) -> None:
    upload = scene.upload()
    for job in [scene.succeeded(uploads=[upload]) for _ in range(2)]:
        scene.delete(job)
    scene.sweep()
    assert (scene.uploaded(), scene.rows("upload"), scene.rows("job")) == (set(), 0, 0)


def test_a_multipart_upload_that_was_joined_goes_like_any_other(scene: Sweeping) -> None:
    upload = scene.upload(multipart_id="joined-already", part_size=5)
    job = scene.cancelled(uploads=[upload])
    scene.delete(job)
    scene.sweep()
    assert (scene.uploaded(), scene.rows("upload")) == (set(), 0)


def test_the_results_of_a_job_stay_while_an_open_job_reads_them(scene: Sweeping) -> None:
    source = scene.succeeded("mask.nii.gz", retention_s=0.001)
    reader = scene.submit(source_jobs=[source.id])
    scene.sweep()
    assert scene.results(source) == ["1/mask.nii.gz"]
    scene.finish(scene.claimed(reader), [])
    scene.sweep()
    assert scene.results(source) == []
    assert scene.is_there(reader)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["forget", "remove_all", "give_up_inputs"])
def test_a_sweep_that_was_cut_short_is_finished_by_the_next(
    scene: Sweeping, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    jobs = [scene.succeeded("mask.nii.gz", uploads=[scene.upload()]) for _ in range(3)]
    scene.age(*jobs)
    place: Any = scene.objects if step == "remove_all" else scene.retention

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(place, step, die)
        with pytest.raises(Killed):
            scene.sweep()
    assert scene.rows("job") == 3
    with sweeping_of(scene.settings) as successor:
        successor.sweep()
    assert [scene.rows(table) for table in ("job", "job_source", "upload")] == [0, 0, 0]
    assert scene.objects.keys("") == []


def test_a_store_that_is_away_costs_nothing_but_time(scene: Sweeping, settings: Settings) -> None:
    jobs = [scene.succeeded("mask.nii.gz", uploads=[scene.upload()]) for _ in range(3)]
    scene.age(*jobs)
    with proxy_to(port_of(settings)) as proxy:
        away = settings.model_copy(update={"minio_endpoint": f"127.0.0.1:{proxy.port}"})
        with sweeping_of(settings, ObjectStore(away)) as cut_off:
            proxy.cut()
            with pytest.raises(DependencyError):
                cut_off.sweep()
            assert scene.rows("job") == 3
            assert len(scene.objects.keys("")) == 6
            cut_off.sweeper.tick()
            faults = cut_off.measures.registry.get_sample_value("fleet_reconciler_faults_total", {"step": "deletions"})
            lag = cut_off.measures.registry.get_sample_value("fleet_sweep_lag_seconds")
            assert faults == 1
            assert lag is not None
            assert lag > 0
            proxy.mend()
            cut_off.sweep()
    assert scene.rows("job") == 0
    assert scene.objects.keys("") == []


def test_jobs_without_objects_need_no_object_store(settings: Settings) -> None:
    nowhere = ObjectStore(settings.model_copy(update={"minio_endpoint": "127.0.0.1:1"}))
    with sweeping_of(settings, nowhere) as scene:
        for job in (scene.succeeded(), scene.failed(), scene.cancelled(), scene.expired()):
            scene.delete(job)
        scene.sweep()
        assert scene.rows("job") == 0


def test_an_object_that_the_store_does_not_give_up_keeps_its_job_and_no_other(
    scene: Sweeping, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = (scene.succeeded("mask.nii.gz") for _ in range(2))
    for job in (stuck, free):
        scene.delete(job)
    remove_all: Callable[..., dict[str, str]] = scene.objects.remove_all

    def refuse(keys: list[str]) -> dict[str, str]:
        locked = {key: "AccessDenied" for key in keys if str(stuck.id) in key}
        return remove_all([key for key in keys if key not in locked]) | locked

    with monkeypatch.context() as patched:
        patched.setattr(scene.objects, "remove_all", refuse)
        scene.sweep()
    assert scene.is_there(stuck)
    assert not scene.is_there(free)
    scene.sweep()
    assert not scene.is_there(stuck)


def test_more_than_a_batch_goes_in_one_round(scene: Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.sweeper._BATCH", 4)
    jobs = [scene.succeeded("mask.nii.gz", retention_s=0.001) for _ in range(10)]
    kept = scene.succeeded("mask.nii.gz")
    scene.sweep()
    assert not any(scene.is_there(job) for job in jobs)
    assert scene.did("job-removed") == 10
    assert scene.is_there(kept)


def test_two_leaders_at_the_same_jobs_are_harmless(scene: Sweeping, settings: Settings) -> None:
    jobs = [scene.succeeded("mask.nii.gz", uploads=[scene.upload()]) for _ in range(5)]
    scene.age(*jobs)
    due = scene.retention.expired(10)
    scene.retention.hide(due)
    batch = scene.retention.hidden(10)
    other = Removal(scene.retention, ObjectStore(settings))
    assert scene.removal.remove(batch).jobs == 5
    again = other.remove(batch)
    assert (again.jobs, again.uploads, again.left) == (0, 0, frozenset())


def test_two_leaders_that_sweep_at_once_remove_everything_once(scene: Sweeping, settings: Settings) -> None:
    shared = scene.upload()
    jobs = [scene.succeeded("mask.nii.gz", uploads=[shared, scene.upload()]) for _ in range(30)]
    scene.age(*jobs)
    with sweeping_of(settings) as other, ThreadPoolExecutor(2) as threads:
        for sweep in [threads.submit(leader.sweep) for leader in (scene, other)]:
            sweep.result()
        assert scene.did("job-removed") + other.did("job-removed") == 30
    assert [scene.rows(table) for table in ("job", "job_source", "upload")] == [0, 0, 0]
    assert scene.objects.keys("") == []


def test_a_retried_job_keeps_its_new_result_and_loses_what_its_old_attempt_left(scene: Sweeping) -> None:
    job = scene.failed("mask.nii.gz")
    scene.jobs.retry(job.id, "default")
    scene.walk()
    assert scene.results(job) == ["1/mask.nii.gz"]
    claim = scene.claimed(job)
    artifacts = scene.store(claim.job, "mask.nii.gz")
    scene.walk()
    assert scene.results(job) == ["2/mask.nii.gz"]
    done = scene.finish(claim, artifacts)
    scene.walk()
    scene.sweep()
    assert scene.results(done) == ["2/mask.nii.gz"]
    scene.age(done)
    scene.sweep()
    assert scene.results(done) == []


@pytest.mark.parametrize("ending", ["failed", "cancelled", "expired"])
def test_each_ending_but_success_may_be_retried(scene: Sweeping, ending: str) -> None:
    job = getattr(scene, ending)()
    again = scene.jobs.retry(job.id, "default", 60.0)
    assert (again.state, again.expires_at) == (JobState.QUEUED, None)
    assert scene.finish(scene.claimed(again), []).state is JobState.SUCCEEDED


def test_a_worker_that_finishes_a_deleted_job_does_not_bring_it_back(scene: Sweeping) -> None:
    claim = scene.claimed(uploads=[scene.upload()])
    scene.delete(claim.job)
    scene.sweep()
    assert scene.is_there(claim.job)
    scene.finish(claim, scene.store(claim.job, "mask.nii.gz"))
    scene.sweep()
    assert not scene.is_there(claim.job)
    assert scene.objects.keys("") == []


def test_a_worker_that_stores_after_its_job_is_gone_leaves_orphans_that_go(scene: Sweeping) -> None:
    claim = scene.claimed()
    scene.delete(claim.job)
    assert scene.jobs.stop(claim.job, JobState.CANCELLED, None, NOTHING)
    scene.sweep()
    scene.store(claim.job, "mask.nii.gz")
    assert scene.results(claim.job) == ["1/mask.nii.gz"]
    scene.walk()
    assert scene.results(claim.job) == []


def test_a_store_that_refuses_the_whole_request_is_no_success(settings: Settings) -> None:
    store = ObjectStore(settings.model_copy(update={"minio_secret_key": SecretStr("wrong-secret")}))
    with pytest.raises(DependencyError):
        store.remove_all(["results/a"])


def test_removing_reports_only_what_is_still_there(scene: Sweeping) -> None:
    scene.objects.put_bytes("a b/ü#?+&<.txt", b"x", media_type="text/plain", name="x")
    assert scene.objects.remove_all(["a b/ü#?+&<.txt", "never there"]) == {}
    assert scene.objects.keys("") == []
    assert scene.objects.remove_all([]) == {}
