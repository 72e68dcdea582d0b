"""`fleet jobs delete`, `fleet jobs retry` and `fleet submit --keep`."""

import io
import sys
from pathlib import Path

import pytest
import typer

from cli.durations import duration_s
from tests.support.protocol_server import JOB_ID, ProtocolServer, problem
from tests.unit.cli.conftest import Fleet

OTHER_ID = JOB_ID[:-1] + "2"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def ended(server: ProtocolServer) -> ProtocolServer:
    server.states = [server.job("succeeded", expires_at="2026-01-08T12:00:00Z")]
    return server


def test_delete_with_yes_asks_nothing(fleet: Fleet, ended: ProtocolServer) -> None:
    said = fleet("jobs", "delete", JOB_ID, "--yes")
    assert (said.code, said.out, said.err) == (0, f"{JOB_ID} deleted\n", "")
    assert len(ended.api.requests("DELETE")) == 1


def test_what_still_runs_is_said_to_follow(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job("running")]
    assert (
        fleet("jobs", "delete", JOB_ID, "-y").out
        == f"{JOB_ID} deleted; what it stored goes as soon as it has stopped\n"
    )
    assert fleet("jobs", "delete", JOB_ID, "-y", "--json").json == [{"id": JOB_ID, "gone": False}]


def test_without_a_terminal_nothing_is_deleted_unasked(
    fleet: Fleet, ended: ProtocolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    said = fleet("jobs", "delete", JOB_ID)
    assert said.code == 2
    assert "[confirmation-needed]" in said.err
    assert "--yes" in said.err
    assert ended.api.requests("DELETE") == []


@pytest.mark.parametrize(("answer", "code", "deleted"), [("y\n", 0, 1), ("n\n", 130, 0), ("\n", 130, 0)])
def test_on_a_terminal_it_asks_first(
    fleet: Fleet, ended: ProtocolServer, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, deleted: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    said = fleet("jobs", "delete", JOB_ID)
    assert said.code == code
    assert "Delete this job for good?" in said.err
    assert len(ended.api.requests("DELETE")) == deleted


def test_a_mistyped_id_deletes_nothing(fleet: Fleet, ended: ProtocolServer) -> None:
    ended.api.fail("GET", f"/api/v1/jobs/{OTHER_ID}", problem(404, "job-not-found", "there is no job"))
    said = fleet("jobs", "delete", JOB_ID, OTHER_ID, "--yes")
    assert said.code == 3
    assert ended.api.requests("DELETE") == []


def test_several_go_at_once_and_each_only_once(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job("succeeded"), server.job("succeeded", id=OTHER_ID), server.job("succeeded")]
    said = fleet("jobs", "delete", JOB_ID, OTHER_ID, JOB_ID, "--yes")
    assert said.out.splitlines() == [f"{JOB_ID} deleted", f"{OTHER_ID} deleted"]


def test_retry_tells_the_state(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job("failed")]
    assert fleet("jobs", "retry", JOB_ID).out == f"{JOB_ID} queued\n"
    assert fleet("jobs", "retry", JOB_ID, "--deadline", 60, "--json").json["retries"] == 1
    assert server.api.requests("POST", f"/api/v1/jobs/{JOB_ID}/retry")[1].json == {"deadline_s": 60.0}


def test_a_retry_that_is_refused_is_a_conflict(fleet: Fleet, ended: ProtocolServer) -> None:
    ended.api.fail("POST", "/api/v1/jobs", problem(409, "job-succeeded", "it has succeeded"))
    said = fleet("jobs", "retry", JOB_ID)
    assert said.code == 8
    assert "job-succeeded" in said.err


def test_submit_says_how_long_to_keep_the_job(fleet: Fleet, server: ProtocolServer, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"volume")
    request = ("submit", "segmentation", "--model", "m", scan, "--no-wait")
    assert fleet(*request, "--keep", "30d").code == 0
    assert fleet(*request, "--keep", "soon").code == 2
    (sent,) = server.api.requests("POST", "/api/v1/jobs")
    assert sent.json["retention_s"] == 30 * 86400


def test_show_tells_until_when_a_job_is_kept(fleet: Fleet, ended: ProtocolServer) -> None:
    assert "kept until" in fleet("jobs", "show", JOB_ID).out


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45min", 2700), ("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("1.5 H", 5400), (" 1D ", 86400)],
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    assert duration_s(text, "--keep") == seconds


@pytest.mark.parametrize("text", ["", "30", "0d", "-1d", "1m", "d", "1d1h", "nan d", "1e3s", "9" * 400 + "d"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration_s(text, "--keep")
