"""The orphan walk: what no job can need goes, what one may need stays, whoever works meanwhile."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest

from api.orphans import OWNER_KEY, OrphanWalk, attempt_of, upload_of
from fleet.contracts import JobState
from fleet.errors import Conflict, DependencyError
from fleet.ids import new_id
from fleet.model_records import ModelRecords
from fleet.model_source import AtUrl
from fleet.objects import ObjectStore, result_key, upload_key
from fleet.outbox import Outbox
from fleet.settings import Settings
from tests.support.housed import claimed, finished
from tests.support.sweeping import NOTHING, Sweeping, sweeping_of
from tests.support.tcp_proxy import proxy_to

MIB = 1024 * 1024


@pytest.fixture
def scene(settings: Settings) -> Iterator[Sweeping]:
    with sweeping_of(settings) as opened:
        yield opened


def put(scene: Sweeping, *keys: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: scene.objects.put_bytes(key, b"x", media_type="text/plain", name="x"), keys))


def everything(scene: Sweeping) -> set[str]:
    """Without the bucket's own mark."""
    return set(scene.objects.keys("")) - {OWNER_KEY}


def lapse(scene: Sweeping) -> None:
    scene.database.run("update job set lease_until = clock_timestamp() - interval '1 s' where lease_until is not null")
    assert Outbox(scene.database).lapse_leases()


def test_results_of_unknown_jobs_go(scene: Sweeping) -> None:
    kept = scene.succeeded("mask.nii.gz")
    put(scene, result_key(new_id(), 1, "mask.nii.gz"), result_key(new_id(), 7, "folder/preview.png"))
    scene.walk()
    assert everything(scene) == {result_key(kept.id, 1, "mask.nii.gz")}
    assert (scene.did("orphan-result"), scene.did("orphan-walk")) == (2, 1)


def test_only_the_attempt_that_won_keeps_its_results(scene: Sweeping) -> None:
    first = scene.claimed()
    scene.store(first.job, "a")
    lapse(scene)
    second = scene.claimed(first.job)
    won = scene.finish(second, scene.store(second.job, "a"))
    # The first one wakes up and goes on.
    scene.store(first.job, "b")
    scene.walk()
    assert scene.results(won) == ["2/a"]


def test_the_current_attempt_of_an_open_job_is_left_alone_and_older_ones_are_not(scene: Sweeping) -> None:
    running, queued = scene.claimed(), scene.claimed()
    for claim in (running, queued):
        scene.store(claim.job, "old")
    lapse(scene)
    for job in (running.job, queued.job):
        scene.store(scene.claimed(job).job, "now")
    assert scene.jobs.hand_back(scene.jobs.get(queued.job.id), "drained")
    scene.walk()
    assert scene.results(running.job) == scene.results(queued.job) == ["2/now"]


def test_files_of_a_version_are_those_of_the_attempt_that_won(scene: Sweeping) -> None:
    records = ModelRecords(scene.database)
    for name in ("ready", "failed", "open"):
        records.request(name, 1, AtUrl(url="https://models.example.org/m.onnx"), tenant="default")
        for lease_s in (0.0, 30.0):
            claimed(records, lease_s)
    finished(records, records.get("ready", 1))
    assert records.fail_import(records.get("failed", 1), {"code": "x", "message": "x"})
    names = ("ready", "failed", "open", "nobody")
    put(scene, "models/notes.txt", *(f"models/{name}/1/{attempt}/1/model.onnx" for name in names for attempt in (1, 2)))
    scene.walk()
    left = {"models/notes.txt", "models/ready/1/2/1/model.onnx", "models/open/1/2/1/model.onnx"}
    assert everything(scene) == left
    assert scene.did("orphan-model") == 6


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.EXPIRED])
def test_a_job_that_ended_without_success_keeps_no_results(scene: Sweeping, state: JobState) -> None:
    claim = scene.claimed()
    scene.store(claim.job, "a")
    assert scene.jobs.stop(claim.job, state, None, NOTHING)
    failed = scene.failed("a")
    scene.walk()
    assert scene.results(claim.job) == scene.results(failed) == []


def test_uploads_without_a_row_go_and_those_with_one_stay(scene: Sweeping) -> None:
    unused, used = scene.upload(), scene.upload()
    scene.submit(uploads=[used])
    put(scene, upload_key("default", new_id(), "scan.nii"), upload_key("another", new_id(), "scan.nii"))
    scene.walk()
    assert scene.uploaded() == {unused, used}
    assert scene.did("orphan-upload") == 2


def test_bytes_that_come_through_an_old_url_after_the_upload_is_gone_are_orphans(scene: Sweeping) -> None:
    upload = scene.upload()
    url = scene.objects.presigned_put(upload_key("default", upload, "scan.nii"))
    job = scene.cancelled(uploads=[upload])
    scene.delete(job)
    scene.sweep()
    assert scene.uploaded() == set()
    assert httpx.put(url, content=b"abc", trust_env=False).status_code == 200
    scene.walk()
    assert scene.uploaded() == set()


def test_an_upload_whose_jobs_vanished_unseen_is_given_up(scene: Sweeping) -> None:
    upload, kept = scene.upload(), scene.upload()
    job = scene.submit(uploads=[upload, kept])
    scene.submit(uploads=[kept])
    scene.database.run("delete from job where id = %(id)s", {"id": job.id})
    scene.walk()
    assert [stale.id for stale in scene.uploads.stale(10)] == [upload]
    assert scene.did("upload-abandoned") == 1


def test_what_is_young_is_left_alone(scene: Sweeping) -> None:
    put(scene, result_key(new_id(), 1, "a"), upload_key("default", new_id(), "a"))
    scene.walk(grace_s=3600.0)
    assert len(everything(scene)) == 2


def test_what_fleet_did_not_name_is_not_fleets_to_remove(scene: Sweeping) -> None:
    # Not the same id: to a store that keeps folders a key is not also the beginning of another.
    job, lone = new_id(), new_id()
    foreign = {
        "backup/results/1/a", "results/readme.txt", f"results/{lone}", f"results/{job}/x/a", f"results/{job}/-1/a",
        f"results/{str(job).upper()}/1/a", f"results/{job.hex}/1/a", "results/1/2/3", "uploads/a", f"uploads/{job}/a",
        "uploads/default/not-an-id/a", "resultsandmore/a",
    }  # fmt: skip
    put(scene, *foreign)
    scene.walk()
    assert everything(scene) == foreign


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("results/01990000-0000-7000-8000-000000000001/2/a", (UUID("01990000-0000-7000-8000-000000000001"), 2)),
        ("results/01990000-0000-7000-8000-000000000001/2/", (UUID("01990000-0000-7000-8000-000000000001"), 2)),
        ("results/01990000-0000-7000-8000-000000000001/2", None),
        ("results/01990000-0000-7000-8000-000000000001/²/a", None),
        ("results/{01990000-0000-7000-8000-000000000001}/2/a", None),
        ("uploads/01990000-0000-7000-8000-000000000001/2/a", None),
    ],
)
def test_a_key_tells_job_and_attempt(key: str, found: tuple[UUID, int] | None) -> None:
    assert attempt_of(key) == found
    assert upload_of(key) is None


def test_multipart_uploads_that_nobody_ends_are_ended(scene: Sweeping) -> None:
    pending, complete = scene.upload(complete=False), scene.upload()
    lost = scene.claimed()
    lapse(scene)
    running = scene.claimed(lost.job)
    keys = {
        "unknown upload": upload_key("default", new_id(), "a"),
        "upload on its way": upload_key("default", pending, "a"),
        "complete upload": upload_key("default", complete, "a"),
        "lost attempt": result_key(lost.job.id, 1, "a"),
        "running attempt": result_key(running.job.id, 2, "a"),
        "unknown job": result_key(new_id(), 1, "a"),
        "not ours": "backup/a",
    }
    started = {
        what: scene.objects.presigned_part(key, scene.objects.start_multipart(key, "text/plain"), 1)
        for what, key in keys.items()
    }
    scene.walk(grace_s=3600.0)
    assert scene.did("multipart-ended") == 0
    scene.walk()
    assert scene.did("multipart-ended") >= 4
    takes = {what: httpx.put(url, content=b"abc", trust_env=False).status_code for what, url in started.items()}
    alive = {what for what, status in takes.items() if status == 200}
    assert alive == {"upload on its way", "running attempt", "not ours"}


def test_a_walk_goes_on_where_it_stopped(scene: Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.orphans._PAGE", 3)
    put(scene, *(result_key(new_id(), 1, "a") for _ in range(10)))
    kept = [scene.succeeded("a", "b") for _ in range(4)]
    walk = OrphanWalk(scene.retention, scene.objects, scene.steps, grace_s=-60.0, every_s=3600.0)
    rounds = 0
    while not scene.did("orphan-walk"):
        walk.go_on(threading.Event(), budget_s=0.0)
        rounds += 1
        assert rounds < 1000
        if rounds % 2:
            scene.succeeded("a")
    assert rounds > 5
    assert len([job for job in kept if scene.results(job) == ["1/a", "1/b"]]) == 4
    assert scene.did("orphan-result") == 10


def test_a_walk_begins_again_only_after_its_time(scene: Sweeping) -> None:
    walk = OrphanWalk(scene.retention, scene.objects, scene.steps, grace_s=-60.0, every_s=3600.0)
    never = OrphanWalk(scene.retention, scene.objects, scene.steps, grace_s=-60.0, every_s=0.0)
    walk.go_on(threading.Event())
    put(scene, result_key(new_id(), 1, "a"))
    walk.go_on(threading.Event())
    never.go_on(threading.Event())
    assert scene.did("orphan-walk") == 1
    assert len(everything(scene)) == 1


def test_a_walk_stops_when_the_process_does(scene: Sweeping) -> None:
    stop = threading.Event()
    stop.set()
    put(scene, result_key(new_id(), 1, "a"))
    OrphanWalk(scene.retention, scene.objects, scene.steps, grace_s=-60.0, every_s=3600.0).go_on(stop)
    assert len(everything(scene)) == 1


def test_a_bucket_of_another_record_is_not_touched(scene: Sweeping) -> None:
    put(scene, result_key(new_id(), 1, "a"))
    scene.walk(grace_s=3600.0)
    scene.database.run("update record_identity set id = gen_random_uuid()")
    with pytest.raises(Conflict) as refused:
        scene.walk()
    assert refused.value.code == "bucket-of-another-record"
    assert len(everything(scene)) == 1
    scene.objects.remove(OWNER_KEY)
    scene.walk()
    assert everything(scene) == set()


def test_a_walk_survives_an_outage_of_the_store_and_of_the_record(settings: Settings) -> None:
    port = int(settings.minio_endpoint.rpartition(":")[2])
    with proxy_to(port) as proxy:
        through = ObjectStore(settings.model_copy(update={"minio_endpoint": f"127.0.0.1:{proxy.port}"}))
        with sweeping_of(settings, through) as scene:
            kept = scene.succeeded("a")
            put(scene, result_key(new_id(), 1, "a"))
            walk = OrphanWalk(scene.retention, through, scene.steps, grace_s=-60.0, every_s=3600.0)
            proxy.cut()
            with pytest.raises(DependencyError):
                walk.go_on(threading.Event())
            proxy.mend()
            walk.go_on(threading.Event(), budget_s=0.0)
            proxy.cut()
            with pytest.raises(DependencyError):
                walk.go_on(threading.Event())
            proxy.mend()
            walk.go_on(threading.Event())
            assert everything(scene) == {result_key(kept.id, 1, "a")}


def test_a_walk_through_thousands_never_takes_a_live_result(scene: Sweeping, settings: Settings) -> None:
    """While it walks, again and again, workers claim, store, lose leases, retry and commit as fast as they can."""
    put(scene, *(result_key(new_id(), 1 + number % 3, "mask") for number in range(2500)))
    done, over = [], threading.Event()

    def work(number: int) -> None:
        while not over.is_set():
            claim = scene.claimed(max_attempts=5)
            scene.store(claim.job, "mask", "preview")
            match os.urandom(1)[0] % 4:
                case 0:
                    scene.database.run(
                        "update job set lease_until = clock_timestamp() - interval '1 s' where id = %(id)s",
                        {"id": claim.job.id},
                    )
                    claim = scene.claimed(claim.job)
                case 1:
                    assert scene.jobs.fail(claim.job, DependencyError("later"), NOTHING)
                    claim = scene.claimed(claim.job)
            done.append(scene.finish(claim, scene.store(claim.job, "mask", "preview")))

    with sweeping_of(settings) as other, ThreadPoolExecutor(4) as threads:
        working = [threads.submit(work, number) for number in range(2)]
        try:
            # Two leaders at once, as for a moment after one was cut off.
            for _ in range(2):
                for walk in [threads.submit(leader.walk) for leader in (scene, other)]:
                    walk.result()
        finally:
            over.set()
        for one in working:
            one.result()
    scene.walk()
    assert len(done) > 10
    left = everything(scene)
    assert left == {artifact.object.key for job in done for artifact in job.artifacts}
    assert len(left) == 2 * len(done)
