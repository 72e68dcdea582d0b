"""Workers send no events by themselves: they cost more than the messages. Flower asks for them while it runs."""

import json
import os
import subprocess
import sys
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

from cli.stack.ports import free_port
from tests.support.compose import read_env_file, render
from tests.support.fleet_of_one import ROOT, job_store, new_job, submit, worker_process
from tests.support.servers import Servers
from tests.support.waiting import eventually

SERVICES = render([ROOT / "docker-compose.yml"], read_env_file(ROOT / ".env.example")).services


def shown(port: int) -> dict[str, Any]:
    """The tasks that Flower knows of, by id."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/tasks")
    request.add_header("Authorization", f"Basic {b64encode(b'somebody:secret').decode()}")
    with urllib.request.urlopen(request, timeout=10) as response:
        tasks: dict[str, Any] = json.loads(response.read())
    return tasks


def test_flower_sees_the_jobs_that_run_while_it_watches(servers: Servers, tmp_path: Path) -> None:
    port = free_port()
    program, *arguments = SERVICES["flower"]["command"]
    arguments = [f"--port={port}" if word.startswith("--port=") else word for word in arguments]
    with servers.fresh() as settings, job_store(settings) as jobs, worker_process(settings, tmp_path / "worker"):
        assert not settings.worker_task_events
        environment = os.environ | {
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "FLOWER_BASIC_AUTH": "somebody:secret",
            "FLOWER_ADDRESS": "127.0.0.1",
        }
        with (
            (tmp_path / "log").open("w") as log,
            subprocess.Popen(
                [sys.executable, "-m", program, *arguments], env=environment, stdout=log, stderr=log, cwd=ROOT
            ) as flower,
        ):

            def seen() -> bool:
                submit(settings, jobs, new_job())
                tasks = shown(port).values()
                return any(task["state"] == "SUCCESS" and task["name"] == "fleet.run" for task in tasks)

            try:
                eventually(seen, errors=(OSError,))
            finally:
                flower.terminate()
