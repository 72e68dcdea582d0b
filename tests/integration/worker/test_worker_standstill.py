"""A worker that has come to a standstill ends itself, whichever part of it stands still; a healthy one never does."""

import signal
import subprocess
from pathlib import Path

import pytest

from fleet.settings import Settings
from tests.support.fleet_of_one import job_store, submit, wait_for, worker_process
from tests.support.watched_worker import perilous, perilous_environment

QUICK = {"WORKER_STUCK_S": "3", "WORKER_CONCURRENCY": "1"}


@pytest.mark.parametrize(
    ("part", "code", "said"),
    [
        ("loop", 71, "the event loop does not turn"),
        ("consumer", 72, "messages lie in cpu.interactive.normal"),
        ("interpreter", 1, "Timeout"),
    ],
)
def test_worker_that_stands_still_ends_itself_and_shows_where_it_was(
    settings: Settings, tmp_path: Path, part: str, code: int, said: str
) -> None:
    environment = perilous_environment(tmp_path) | QUICK
    with job_store(settings) as jobs, worker_process(settings, tmp_path, **environment) as process:
        submit(settings, jobs, perilous(halts=part))
        for _ in range(3):
            submit(settings, jobs, perilous())
        assert process.wait(60) == code
    log = (tmp_path / "worker.log").read_text("utf-8")
    assert said in log
    assert "most recent call first" in log


def test_busy_worker_with_a_long_queue_and_an_idle_one_live_on(settings: Settings, tmp_path: Path) -> None:
    environment = perilous_environment(tmp_path) | QUICK
    with job_store(settings) as jobs, worker_process(settings, tmp_path, **environment) as process:
        long = [submit(settings, jobs, perilous(seconds=2.5)) for _ in range(3)]
        pids = {(wait_for(jobs, job.id).result or {})["pid"] for job in long}
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(5.0)
        last = wait_for(jobs, submit(settings, jobs, perilous()).id)
        assert pids == {(last.result or {})["pid"]}


def test_worker_that_was_frozen_for_longer_than_it_may_stand_still_goes_on(settings: Settings, tmp_path: Path) -> None:
    environment = perilous_environment(tmp_path) | QUICK
    with job_store(settings) as jobs, worker_process(settings, tmp_path, **environment) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(4.0)
        process.send_signal(signal.SIGCONT)
        last = wait_for(jobs, submit(settings, jobs, perilous()).id)
        assert (last.result or {})["pid"] == process.pid
