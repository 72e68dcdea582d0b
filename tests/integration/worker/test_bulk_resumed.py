"""A job of many parts whose worker goes away in the middle: the next one goes on where it was."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from subprocess import Popen

import pytest

from fleet.broker import Broker
from fleet.contracts import Job, JobInput, JobState, ObjectRef
from fleet.ids import new_id
from fleet.objects import upload_key
from fleet.outbox import Outbox
from fleet.parts import parts_prefix
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job, submit, wait_for, worker_process
from tests.support.sweeping import Sweeping, sweeping_of
from tests.support.tiny_embedder import MODEL, make_model
from tests.support.waiting import eventually

PARTS, PART_LINES = 12, 2048
Worker = Callable[..., AbstractContextManager[Popen[bytes]]]


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Worker:
    make_model(tmp_path / "models", batching={"max_batch_size": 16, "dynamic": True, "instances": 1})
    places = {"MODELS_PATH": str(tmp_path / "models"), "WORKER_DRAIN_S": "0.2", "LEASE_S": "5"}
    return partial(worker_process, settings, tmp_path / "worker", **places)


@pytest.fixture
def scene(settings: Settings) -> Iterator[Sweeping]:
    with sweeping_of(settings) as opened:
        yield opened


def texts_in(scene: Sweeping) -> ObjectRef:
    colours, animals = ("red", "green", "blue"), ("cat", "dog", "bird", "cat sleeps", "dog runs runs")
    texts = [f"{'the ' * (n % 4)}{colours[n % 3]} {animals[n % 5]}" for n in range(PARTS * PART_LINES - 100)]
    lines = "".join(json.dumps(text) + "\n" for text in texts).encode()
    key = upload_key("default", new_id(), "texts.jsonl")
    return scene.objects.put_bytes(key, lines, media_type="application/jsonl", name="texts.jsonl")


def send(settings: Settings, scene: Sweeping, texts: ObjectRef) -> Job:
    new = new_job(MODEL, "text-embedding", inputs=[JobInput(object=texts)])
    return submit(settings, scene.jobs, new)


@contextmanager
def slow_parts(scene: Sweeping) -> Iterator[None]:
    """Each part takes most of a second to keep, so that there is a middle to go away in on the fastest machine."""
    scene.database.run(
        "create function dawdle() returns trigger language plpgsql as 'begin perform pg_sleep(0.8); return new; end'"
    )
    scene.database.run("create trigger dawdle before insert on job_part for each row execute function dawdle()")
    try:
        yield
    finally:
        scene.database.run("drop trigger dawdle on job_part")
        scene.database.run("drop function dawdle")


def kept(scene: Sweeping, job: Job) -> dict[str, int]:
    """Part -> the attempt that kept it."""
    rows = scene.database.run("select name, attempt from job_part where job_id = %(id)s", {"id": job.id})
    return {row["name"]: row["attempt"] for row in rows}


def wait_for_parts(scene: Sweeping, job: Job, count: int) -> None:
    eventually(lambda: len(kept(scene, job)) >= count)


def objects_of(scene: Sweeping, job: Job, folder: Path) -> dict[str, bytes]:
    found = {}
    for artifact in job.artifacts:
        scene.objects.fetch(artifact.object, folder / artifact.name)
        found[artifact.name] = (folder / artifact.name).read_bytes()
    return found


def ring_again(settings: Settings, job: Job) -> None:
    broker = Broker(settings.redis_url.get_secret_value())
    broker.publish(job.id, job.publish_seq, job.queue)
    broker.close()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_worker_goes_on_after_the_parts_of_the_one_that_went_away(
    settings: Settings, scene: Sweeping, worker: Worker, tmp_path: Path, end: signal.Signals
) -> None:
    texts = texts_in(scene)
    with worker() as process, slow_parts(scene):
        job = send(settings, scene, texts)
        wait_for_parts(scene, job, 3)
        process.send_signal(end)
        process.wait(30)
    if end is signal.SIGKILL:
        scene.database.run("update job set lease_until = clock_timestamp() - interval '1 s' where state = 'running'")
        assert Outbox(scene.database).lapse_leases()
    waiting = scene.jobs.get(job.id)
    assert (waiting.state, waiting.attempt) == (JobState.QUEUED, 1)
    before = kept(scene, job)
    assert 3 <= len(before) < PARTS, "it went away in the middle"
    assert set(before.values()) == {1}

    with worker():
        ring_again(settings, waiting)
        resumed = wait_for(scene.jobs, job.id)
        assert resumed.state is JobState.SUCCEEDED, resumed.error
        uninterrupted = wait_for(scene.jobs, send(settings, scene, texts).id)
    assert (resumed.attempt, resumed.progress, uninterrupted.attempt) == (2, 1.0, 1)

    after = kept(scene, job)
    assert len(after) == PARTS + 1, "every part, and that the lines are sound"
    assert {name for name, attempt in after.items() if attempt == 1} == set(before), "none of them was made again"
    assert resumed.result == uninterrupted.result
    assert objects_of(scene, resumed, tmp_path) == objects_of(scene, uninterrupted, tmp_path)

    scene.sweeper.remove_parts()
    for ended in (resumed, uninterrupted):
        assert scene.objects.keys(parts_prefix(ended.id)) == []
        assert sorted(scene.results(ended)) == [f"{ended.attempt}/embeddings.npy", f"{ended.attempt}/tokens.npy"]
    assert scene.rows("job_part") == 0


def test_a_model_that_was_changed_meanwhile_makes_all_parts_anew(
    settings: Settings, scene: Sweeping, worker: Worker, tmp_path: Path
) -> None:
    texts = texts_in(scene)
    with worker() as process, slow_parts(scene):
        job = send(settings, scene, texts)
        wait_for_parts(scene, job, 3)
        process.terminate()
        process.wait(30)
    pooling = tmp_path / "models" / MODEL / "1" / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True}), "utf-8")
    with worker():
        ring_again(settings, scene.jobs.get(job.id))
        resumed = wait_for(scene.jobs, job.id)
        uninterrupted = wait_for(scene.jobs, send(settings, scene, texts).id)
    assert (resumed.state, resumed.attempt) == (JobState.SUCCEEDED, 2)
    assert objects_of(scene, resumed, tmp_path) == objects_of(scene, uninterrupted, tmp_path)


def test_a_cancelled_job_leaves_nothing(settings: Settings, scene: Sweeping, worker: Worker) -> None:
    with worker(), slow_parts(scene):
        job = send(settings, scene, texts_in(scene))
        wait_for_parts(scene, job, 3)
        scene.jobs.cancel(job.id, "default")
        assert wait_for(scene.jobs, job.id, timeout_s=20).state is JobState.CANCELLED
    scene.sweeper.remove_parts()
    assert scene.objects.keys(f"results/{job.id}/") == []
    assert scene.rows("job_part") == 0
