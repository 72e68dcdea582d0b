"""The client against the real front door, record and object store. A test does the worker's part of a job."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from cli.stack.ports import free_port
from fleet.contracts import Artifact, JobState, MediaKind
from fleet.job_values import Ending
from fleet.objects import result_key
from fleet.settings import Settings
from fleet_client import (
    Client,
    Conflict,
    InvalidRequest,
    JobCancelled,
    NotFound,
    ObjectRef,
    Unauthorized,
    Unavailable,
    Upload,
)
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.tcp_proxy import proxy_to
from tests.support.waiting import eventually

VOLUME = bytes(range(256)) * 1000


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    with front_door(settings) as running:
        running.announce(card(), card("volume", task="segmentation", accepts=MediaKind.VOLUME))
        yield running


@pytest.fixture
def fleet(door: Door) -> Iterator[Client]:
    with Client(door.url) as client:
        yield client


def stored(door: Door, upload: Upload, tmp_path: Path) -> bytes:
    """What the object store holds for an upload, verified on the way as a worker does."""
    reference = door.core.tickets.get(UUID(upload.id), "default").object
    door.core.objects.fetch(reference, tmp_path / "fetched")
    return (tmp_path / "fetched").read_bytes()


def finish_with(door: Door, job_id: str, files: dict[str, bytes]) -> None:
    """Ends a job as a worker would, with these files in the object store."""
    artifacts = []
    for name, data in files.items():
        key = result_key(UUID(job_id), 1, name)
        stored = door.core.objects.put_bytes(key, data, media_type="application/octet-stream", name=name)
        artifacts.append(Artifact(name=name, object=stored))
    door.run(job_id, {"labels": []}, artifacts=artifacts)


@pytest.mark.parametrize("name", ["scan.nii.gz", "Übung (1) #2 + 100 %&?=.nii", "a  b'c.dcm"])
def test_bytes_arrive_whole_under_any_name(door: Door, fleet: Client, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(VOLUME)
    assert stored(door, fleet.upload(path), tmp_path) == VOLUME


def test_a_large_file_goes_in_parts(door: Door, fleet: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.nii"
    with path.open("wb") as file:
        for number in range(66):
            file.write(bytes([number]) * 1024**2)
    with path.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    upload = fleet.upload(path)
    assert upload.sha256 == expected
    # Without the call that joins parts, nobody would have told the record that this upload is complete.
    assert door.core.tickets.get(UUID(upload.id), "default").complete
    assert hashlib.sha256(stored(door, upload, tmp_path)).hexdigest() == expected


def test_bytes_go_and_come_through_the_api_where_the_store_is_out_of_reach(settings: Settings, tmp_path: Path) -> None:
    with front_door(settings, object_access="proxy") as door, Client(door.url) as fleet:
        door.announce(card("volume", task="segmentation", accepts=MediaKind.VOLUME))
        upload = fleet.upload(VOLUME, name="scan.nii")
        assert stored(door, upload, tmp_path) == VOLUME
        job = fleet.segment(upload, model="volume")
        finish_with(door, job.id, {"mask.nii.gz": b"mask"})
        (path,) = job.save(tmp_path / "out")
        assert path.read_bytes() == b"mask"


def test_a_job_is_waited_for_and_its_files_are_saved(door: Door, fleet: Client, tmp_path: Path) -> None:
    files = {"mask.nii.gz": b"m" * 3_000_000, "preview ü.png": b"png"}
    job = fleet.segment(VOLUME, model="volume", labels={"study": "A17"}, preview=True)
    assert (job.state, job.record.params) == ("queued", {"preview": True})
    worker = threading.Timer(0.3, finish_with, (door, job.id, files))
    worker.start()
    seen: list[str] = []
    job.wait(lambda record: seen.append(record.state))
    worker.join()
    assert (seen[0], seen[-1]) == ("queued", "succeeded")
    assert job.result() == {"labels": []}
    assert {path.name: path.read_bytes() for path in job.save(tmp_path / "out")} == files


def test_who_will_not_wait_for_a_worker_is_refused_at_once(door: Door, fleet: Client) -> None:
    with pytest.raises(Unavailable, match="no worker that lives can run volume/1") as caught:
        fleet.submit(None, [VOLUME], model="volume", refuse_without_worker=True)
    assert (caught.value.code, caught.value.retryable) == ("no-capable-worker", False)
    assert fleet.submit(None, [VOLUME], model="volume").state == "queued"


def test_events_are_those_of_the_record(door: Door, fleet: Client) -> None:
    job = fleet.submit(None, [b"hello"], model="text")
    told = []
    for record in job.events():
        told.append((record.state, record.stage, record.progress))
        if record.state == "queued":
            claim = door.core.jobs.claim(UUID(job.id), "test-worker", 30.0)
            assert claim is not None
        elif record.stage is None and not record.ended:
            door.core.jobs.note_progress([(claim.job.id, claim.job.attempt, "infer", 0.5)])
        elif record.stage == "infer":
            ending = Ending({}, None)
            door.core.jobs.finish(claim.job, result={}, artifacts=[], inputs=claim.job.inputs, ending=ending)
    assert told == [("queued", None, 0.0), ("running", None, 0.0), ("running", "infer", 0.5), ("succeeded", None, 1.0)]
    assert job.record == fleet.job(job.id).record


def test_waiting_goes_on_where_the_line_was_cut(door: Door) -> None:
    with proxy_to(httpx.URL(door.url).port or 0) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as fleet:
        job = fleet.submit(None, [b"hello"], model="text")
        seen: list[str] = []
        waiting = threading.Thread(target=job.wait, args=(lambda record: seen.append(record.state),))
        waiting.start()
        eventually(lambda: door.core.waiters._bells)
        proxy.cut()
        claim = door.core.jobs.claim(UUID(job.id), "test-worker", 30.0)
        assert claim is not None
        proxy.mend()
        eventually(lambda: "running" in seen)
        ending = Ending({}, None)
        door.core.jobs.finish(claim.job, result={}, artifacts=[], inputs=claim.job.inputs, ending=ending)
        waiting.join()
    assert seen == ["queued", "running", "succeeded"]


def test_waiting_survives_a_server_that_is_replaced(settings: Settings) -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}") as fleet:
        with front_door(settings, api_port=port) as door:
            door.announce(card())
            job = fleet.submit(None, [b"hello"], model="text")
            waiting = threading.Thread(target=job.wait)
            waiting.start()
            eventually(lambda: door.core.waiters._bells)
        with front_door(settings, api_port=port) as door:
            eventually(lambda: door.core.waiters._bells)
            door.run(job.id)
            waiting.join()
    assert job.state == "succeeded"


def test_waiting_needs_no_place_among_the_streams(settings: Settings) -> None:
    with front_door(settings, sse_max_streams=0) as door, Client(door.url) as fleet:
        door.announce(card())
        job = fleet.submit(None, [b"hello"], model="text")
        worker = threading.Timer(0.3, door.run, (job.id,))
        worker.start()
        assert job.wait().state == "succeeded"
        worker.join()


def test_a_job_deleted_by_somebody_else_is_not_waited_for(door: Door, fleet: Client) -> None:
    job = fleet.submit(None, [b"hello"], model="text")
    for record in job.events():
        assert record.state == "queued"
        door.core.database.run("UPDATE job SET deleted_at = clock_timestamp() WHERE id = %(id)s", {"id": job.id})
        break
    with pytest.raises(NotFound):
        job.wait()


def test_the_same_submit_under_one_key_is_one_job(fleet: Client, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(VOLUME)
    first = fleet.segment(path, model="volume", idempotency_key="mine", threshold=0.5)
    # The file is uploaded again, so that the bodies of the two requests differ.
    assert fleet.segment(path, model="volume", idempotency_key="mine", threshold=0.5).id == first.id
    with pytest.raises(InvalidRequest) as caught:
        fleet.segment(path, model="volume", idempotency_key="mine", threshold=0.6)
    assert caught.value.code == "idempotency-key-reused"
    path.write_bytes(VOLUME + b"more")
    with pytest.raises(InvalidRequest):
        fleet.segment(path, model="volume", idempotency_key="mine", threshold=0.5)


def test_a_submit_may_wait_for_the_end(door: Door, fleet: Client) -> None:
    def work() -> None:
        while not (queued := list(fleet.jobs(state="queued"))):
            pass
        door.run(queued[0].id)

    worker = threading.Thread(target=work)
    worker.start()
    job = fleet.submit("text-embedding", [b"hello"], model="text", wait_s=30)
    worker.join()
    assert (job.state, job.result()) == ("succeeded", {"text": "done"})


def test_a_queued_job_is_cancelled(fleet: Client) -> None:
    job = fleet.submit(None, [b"hello"], model="text").cancel()
    assert job.state == "cancelled"
    with pytest.raises(JobCancelled):
        job.wait()
    assert fleet.job(job.id).cancel().state == "cancelled"


def test_an_ended_job_cannot_be_cancelled(door: Door, fleet: Client) -> None:
    job = fleet.submit(None, [b"hello"], model="text")
    door.run(job.id)
    with pytest.raises(Conflict) as caught:
        job.cancel()
    assert caught.value.code == "job-already-ended"


def test_lists_are_filtered_and_paged(fleet: Client) -> None:
    jobs = [fleet.submit(None, [b"hello"], model="text", labels={"n": str(number)}) for number in range(7)]
    assert [job.id for job in fleet.jobs(page_size=3)] == [job.id for job in reversed(jobs)]
    (found,) = fleet.jobs(labels={"n": "4"})
    assert found.id == jobs[4].id
    created = found.record.created_at
    assert [job.labels["n"] for job in fleet.jobs(created_after=created)][-1] in ("4", "5")
    assert list(fleet.jobs(state=JobState.FAILED.value)) == []


def test_another_jobs_result_is_an_input(door: Door, fleet: Client) -> None:
    first = fleet.segment(VOLUME, model="volume")
    finish_with(door, first.id, {"mask.nii.gz": b"mask"})
    reference = ObjectRef(door.core.objects.bucket, result_key(UUID(first.id), 1, "mask.nii.gz"))
    second = fleet.segment(reference, model="volume")
    assert second.record.inputs[0].size == 4


def test_models_are_listed(fleet: Client) -> None:
    assert {model.name: model.task for model in fleet.models()} == {"text": "text-embedding", "volume": "segmentation"}
    assert "threshold" in fleet.model("volume").params_schema["properties"]


def test_faults_of_a_request_are_told_one_by_one(fleet: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fleet.segment(VOLUME, model="volume", threshold=7)
    (fault,) = caught.value.errors
    assert fault["pointer"] == "#/params/threshold"
    with pytest.raises(NotFound) as missing:
        fleet.segment(VOLUME, model="no-such-model")
    assert missing.value.code == "model-not-found"


def test_the_key_opens_the_door(settings: Settings) -> None:
    from pydantic import SecretStr

    with front_door(settings, api_keys=SecretStr("ward:the-key")) as door:
        with Client(door.url, "the-key") as fleet:
            assert list(fleet.jobs()) == []
        with Client(door.url, "another-key") as stranger, pytest.raises(Unauthorized):
            list(stranger.jobs())


def test_forecasts_and_the_fleet_view_arrive_as_values(door: Door, fleet: Client) -> None:
    door.core.catalogue.announce_worker(worker_row(concurrency=1))
    jobs = [fleet.submit(None, [b"hello"], model="text") for _ in range(2)]
    jobs[1].refresh()
    forecast = jobs[1].record.forecast
    assert forecast is not None
    assert (forecast.position, forecast.basis) == (2, "the model's card")
    assert forecast.start is not None
    assert forecast.start.earliest <= forecast.start.expected <= forecast.start.latest
    assert [worker.name for worker in fleet.fleet().workers or []] == ["w1"]
    eventually(lambda: [queue.published for queue in fleet.queues().queues] == [2])
    assert len(fleet.queues(empty_too=True).queues) == 24
