"""Jobs: waiting through failures, results, files on disk, lists."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet_client import (
    ChecksumMismatch,
    Client,
    ConnectionFailed,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobRecord,
    NotFound,
    Timeout,
    TransferFailed,
)
from fleet_client.progress import ProgressLine
from tests.support.protocol_server import JOB_ID, Drop, ProtocolServer, problem
from tests.unit.client.conftest import QUICK

FAULT = {"code": "truncated-gzip", "message": "the file ends early", "retryable": False, "facts": {"at": 3}}


def test_wait_sees_every_step_and_the_end(fleet: Client, server: ProtocolServer) -> None:
    server.states = [
        server.job(),
        server.job("running", stage="infer", progress=0.4),
        server.job("succeeded", progress=1.0, result={"labels": []}),
    ]
    steps: list[tuple[str, float]] = []
    job = fleet.segment(b"v", model="m").wait(lambda record: steps.append((record.state, record.progress)))
    assert steps == [("queued", 0.0), ("running", 0.4), ("succeeded", 1.0)]
    assert job.result() == {"labels": []}


def test_an_ended_job_is_not_asked_for_again(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("succeeded")]
    fleet.job(JOB_ID).wait()
    assert len(server.api.seen) == 1


def test_wait_survives_a_server_that_comes_back(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job(), server.job("succeeded")]
    job = fleet.job(JOB_ID)
    away = [Drop, problem(503, "starting", "soon", {"retry-after": "0"}), Drop, Drop, Drop, Drop, Drop]
    server.api.fail("GET", "/api/v1/jobs", *away)  # type: ignore[arg-type]
    assert job.wait().state == "succeeded"


def test_wait_raises_what_kept_the_server_away_until_the_timeout(server: ProtocolServer) -> None:
    server.states = [server.job()]
    with Client(server.url, retries=QUICK) as fleet:
        job = fleet.job(JOB_ID)
        server.api.fail("GET", "/api/v1/jobs", *[Drop] * 1000)
        with pytest.raises(ConnectionFailed):
            job.wait(timeout=0.1)


def test_wait_does_not_retry_what_will_not_change(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job()]
    job = fleet.job(JOB_ID)
    server.api.fail("GET", "/api/v1/jobs", *[problem(404, "job-not-found", "gone")] * 2)
    with pytest.raises(NotFound, match="gone"):
        job.wait()


def test_a_timeout_leaves_the_job_alone(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    job = fleet.job(JOB_ID)
    with pytest.raises(Timeout, match=JOB_ID):
        job.wait(timeout=0)
    assert server.api.requests("POST") == []


@pytest.mark.parametrize(
    ("state", "kind", "code"),
    [
        ("failed", JobFailed, "truncated-gzip"),
        ("cancelled", JobCancelled, "cancelled"),
        ("expired", JobExpired, "expired"),
    ],
)
def test_each_bad_end_has_its_error(
    fleet: Client, server: ProtocolServer, state: str, kind: type[JobFailed], code: str
) -> None:
    server.states = [server.job(), server.job(state, error=FAULT if state == "failed" else None)]
    job = fleet.job(JOB_ID)
    with pytest.raises(kind) as caught:
        job.wait()
    assert caught.value.job is job
    assert caught.value.code == code
    assert job.wait(check=False).state == state


def test_cancel_renews_the_record(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    assert fleet.job(JOB_ID).cancel().state == "cancelled"


def test_a_newer_servers_state_is_kept_as_text(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job("paused")]
    job = fleet.job(JOB_ID)
    assert (job.state, job.ended) == ("paused", False)


def test_files_come_from_the_store_without_the_key(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [server.succeeded(mask__nii__gz=b"m" * 100_000, preview__png=b"p")]
    folder = tmp_path / "new" / "out"
    paths = fleet.job(JOB_ID).save(folder)
    assert paths == [folder / "mask.nii.gz", folder / "preview.png"]
    assert [path.read_bytes() for path in paths] == [b"m" * 100_000, b"p"]
    assert len(server.store.seen) == 2
    for seen in server.store.seen:
        assert "authorization" not in seen.headers
        assert "the-key" not in str(seen.headers)


def test_files_through_the_api_come_with_the_key(tmp_path: Path) -> None:
    with ProtocolServer(proxy=True) as server, Client(server.url, "the-key", retries=QUICK) as fleet:
        server.states = [server.succeeded(mask__nii__gz=b"mask")]
        (path,) = fleet.job(JOB_ID).save(tmp_path)
        assert path.read_bytes() == b"mask"
        assert server.api.requests("GET", f"/api/v1/jobs/{JOB_ID}/artifacts")[0].headers["authorization"]


def test_a_wrong_checksum_leaves_no_file(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [server.succeeded(mask__nii__gz=b"as made")]
    server.artifacts["mask.nii.gz"] = b"altered"
    with pytest.raises(ChecksumMismatch):
        fleet.job(JOB_ID).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_keeps_the_earlier_file(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    (tmp_path / "mask.nii.gz").write_bytes(b"earlier")
    server.states = [server.succeeded(mask__nii__gz=b"as made")]
    server.artifacts["mask.nii.gz"] = b"as made, and more"
    with pytest.raises(ChecksumMismatch):
        fleet.job(JOB_ID).save(tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_a_download_that_breaks_off_begins_anew(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [server.succeeded(mask__nii__gz=b"m" * 1000)]
    server.store.fail("GET", "/", Drop, (200, {"content-length": "1000"}, b"m" * 10), (503, {}, b""))
    (path,) = fleet.job(JOB_ID).save(tmp_path)
    assert path.read_bytes() == b"m" * 1000
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/outside", "..", ".", "", "a\\b", "C:x", "line\nbreak", "sub/file"]
)
def test_nothing_is_written_outside_the_folder(
    fleet: Client, server: ProtocolServer, tmp_path: Path, name: str
) -> None:
    ended = server.job("succeeded", artifacts=[{"name": name, "size": 1}])
    server.states = [ended]
    folder = tmp_path / "inside"
    with pytest.raises(TransferFailed, match="plain file name"):
        fleet.job(JOB_ID).save(folder)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_link_in_the_folder_is_replaced_and_not_followed(
    fleet: Client, server: ProtocolServer, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "mask.nii.gz").symlink_to(outside)
    server.states = [server.succeeded(mask__nii__gz=b"mask")]
    fleet.job(JOB_ID).save(folder)
    assert outside.read_bytes() == b"precious"
    assert (folder / "mask.nii.gz").read_bytes() == b"mask"


def test_jobs_are_listed_over_all_pages(fleet: Client, server: ProtocolServer) -> None:
    server.listed = [server.job(id=f"job-{number}") for number in range(7)]
    assert [job.id for job in fleet.jobs(page_size=3)] == [f"job-{number}" for number in range(7)]
    assert len(server.api.requests("GET", "/api/v1/jobs")) == 3


def test_the_list_is_filtered_by_the_server(fleet: Client, server: ProtocolServer) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    list(fleet.jobs(state="failed", model="m", labels={"study": "A 17", "arm": "b"}, created_after=moment))
    query = server.api.seen[0].query
    assert (query["state"], query["model"], query["label"]) == (["failed"], ["m"], ["study:A 17", "arm:b"])
    assert datetime.fromisoformat(query["created_after"][0]) == moment


def test_models_are_read_tolerantly(fleet: Client, server: ProtocolServer) -> None:
    server.models = [{"name": "m", "version": 2, "labels": {"1": "brain"}, "field_of_tomorrow": 1, "ready_workers": 3}]
    (model,) = fleet.models()
    assert model == fleet.model("m")
    assert (model.version, model.labels, model.ready_workers) == (2, {1: "brain"}, 3)
    with pytest.raises(NotFound, match="no model other"):
        fleet.model("other")


def test_an_id_stays_one_segment_of_the_path(fleet: Client, server: ProtocolServer) -> None:
    server.states = [server.job()]
    fleet.job("../models?x=1")
    assert server.api.seen[0].path == "/api/v1/jobs/..%2Fmodels%3Fx%3D1"


def test_the_progress_line_tells_each_stage_once_outside_a_terminal() -> None:
    out = io.StringIO()
    show = ProgressLine(out)
    for record in [
        {"id": "1", "state": "queued"},
        {"id": "1", "state": "running", "stage": "infer", "progress": 0.2},
        {"id": "1", "state": "running", "stage": "infer", "progress": 0.6},
        {"id": "1", "state": "succeeded", "progress": 1.0},
    ]:
        show(JobRecord.model_validate_json(json.dumps(record)))
    assert out.getvalue().splitlines() == ["job 1: queued   0%", "job 1: infer  20%", "job 1: succeeded 100%"]
