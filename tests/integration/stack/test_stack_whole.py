"""The whole stack with the real api and real workers."""

import os
import signal
import urllib.request
from pathlib import Path

import psycopg

from cli.stack import Stack
from tests.support.clone import ROOT
from tests.support.waiting import eventually


def test_workers_have_names_of_their_own_and_a_killed_one_comes_back(tmp_path: Path) -> None:
    bulk = {"WORKER_LANES": "bulk"}
    with Stack(tmp_path, workers=2, port=0, models=ROOT / "models", durable=False, environment=bulk) as stack:
        with urllib.request.urlopen(f"{stack.url}/readyz") as answer:
            assert answer.status == 200
        with psycopg.connect(stack.settings().database_dsn, autocommit=True) as connection:
            names = {row[0] for row in connection.execute("select name from worker")}
            assert len(names) == 2
            pid = stack.pids["worker-1-bulk"]
            os.kill(pid, signal.SIGKILL)

            def consumes_again() -> bool:
                stack.tick()
                return stack.pids.get("worker-1-bulk") not in (pid, None) and stack.status().healthy

            eventually(consumes_again)
            assert {row[0] for row in connection.execute("select name from worker")} == names
