"""The health check that the compose files give to the workers, run for real, without containers."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.clone import ROOT
from tests.support.compose import read_env_file, render
from worker.pulse import Pulse

FILES = [ROOT / name for name in ("docker-compose.yml", "docker-compose.cpu.yml", "docker-compose.gpu.yml")]
SERVICES = render(FILES, read_env_file(ROOT / ".env.example")).services


def healthy(service: str, ready_file: Path) -> bool:
    kind, script = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    script = script.replace("/tmp/ready", str(ready_file))
    return subprocess.run(["sh", "-c", script], check=False, capture_output=True, timeout=10).returncode == 0


@pytest.mark.parametrize("service", ["inference-worker-cpu", "inference-worker-gpu"])
def test_worker_is_healthy_while_it_takes_jobs_and_shows_signs_of_life(service: str, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready"
    pulse = Pulse(ready_file)
    assert not healthy(service, ready_file)
    pulse.consuming()
    assert healthy(service, ready_file)
    two_minutes_ago = time.time() - 120
    os.utime(ready_file, (two_minutes_ago, two_minutes_ago))
    assert not healthy(service, ready_file), "it is frozen"
    pulse.beat()
    assert healthy(service, ready_file)
    pulse.draining()
    assert not healthy(service, ready_file)
