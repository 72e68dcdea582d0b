"""`fleet top`: what it shows at which width, and that it outlives its server."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from cli.top_tables import Shown, screen
from fleet_client import FleetStatus, QueuesStatus
from tests.support.protocol_server import Answer, Drop, Origin, Seen
from tests.unit.cli.conftest import Fleet

GB = 10**9
WORKERS: list[dict[str, Any]] = [
    {
        "name": "gpu-bulk@here", "pool": "gpu", "lanes": ["bulk"], "device": "simulated-gpu (cpu x86_64, 2 cores)",
        "provider": "CPUExecutionProvider", "simulated": True, "slots": 1, "running": 1, "models": 3,
        "loaded": ["brain-extraction/1"], "device_memory_bytes": 80 * GB, "device_used_bytes": 20 * GB,
    },
    {
        "name": "cpu-bulk@here", "pool": "cpu", "lanes": ["bulk"], "device": "CPU", "slots": 2, "running": 0,
        "provider": "CPUExecutionProvider", "models": 3, "rss_bytes": 3 * GB,
        "helping": [{"queue": "gpu.bulk.low", "why": "gpu wait 41 s > cpu 12 s", "joined": True}],
    },
]  # fmt: skip
RUNNING = [
    {
        "id": "0199", "model": "brain-extraction", "version": 1, "stage": "infer", "progress": 0.5, "priority": "high",
        "lane": "bulk", "queue": "gpu.bulk.high", "worker": "gpu-bulk@here", "seconds": 12.0,
    }
]  # fmt: skip
FLEET: dict[str, Any] = {
    "workers": WORKERS,
    "running": RUNNING,
    "pools": [
        {"pool": "gpu", "workers": 1, "simulated": 1, "slots": 1, "running": 1},
        {"pool": "cpu", "workers": 1, "slots": 2, "running": 0},
    ],
    "traffic_age_s": 0.5,
}
QUEUES: dict[str, Any] = {
    "queues": [
        {
            "name": "gpu.bulk.low", "messages": 8, "published": 8, "held": 1200, "oldest_s": 70.0, "wait_s": 3700.0,
            "workers": 2, "helpers": ["cpu-bulk@here"], "help_why": "gpu wait 41 s > cpu 12 s",
        },
        {"name": "gpu-only.bulk.low", "messages": 1, "published": 1, "held": 0, "wait_s": None, "workers": 0},
    ],
    "lanes": [{"lane": "bulk", "waiting": 1209, "limit": 1_000_000, "yours": 3}],
    "traffic_age_s": 0.5,
}  # fmt: skip


def answer(seen: Seen) -> Answer:
    body = FLEET if seen.path.endswith("fleet") else QUEUES
    return 200, {"content-type": "application/json"}, json.dumps(body).encode()


@pytest.fixture
def monitored() -> Iterator[Origin]:
    origin = Origin(answer)
    try:
        yield origin
    finally:
        origin.stop()


def drawn(width: int, lines: int | None = None, **changes: Any) -> str:
    shown = Shown(
        FleetStatus.model_validate(FLEET | changes.get("fleet", {})),
        QueuesStatus.model_validate(QUEUES | changes.get("queues", {})),
        datetime(2026, 1, 1, 12),  # noqa: DTZ001 (a person's clock)
    )
    console = Console(width=width, markup=False, highlight=False, file=(drawing := StringIO()))
    console.print(screen(shown, "http://here", width, lines, changes.get("trouble")))
    return drawing.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(width).splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for expected in ("gpu.bulk.low", "1,208", "1,200", "60 min", "1 helping", "nobody", "brain-extraction", "20/80 GB"):
        assert expected in text
    assert "1 GPU worker (1 simulated), 1 of 1 slots busy" in text
    assert "bulk: 1,209 waiting, 3 of them yours" in text


def test_a_wide_terminal_also_tells_why_and_which_job() -> None:
    text = drawn(140)
    assert "1 helping: gpu wait 41 s > cpu 12 s" in text
    assert "helps gpu.bulk low: gpu wait 41 s > cpu 12 s" in text
    assert "12 s brain-extraction infer high 0199" in text


def test_simulated_gpus_are_marked() -> None:
    (line,) = [line for line in drawn(140).splitlines() if line.startswith("bulk") and "simulated" in line]
    assert "CPU" not in line


def test_a_low_terminal_leaves_workers_out_and_says_so() -> None:
    many = [WORKERS[1] | {"name": f"w{number}"} for number in range(30)]
    lines = drawn(140, 20, fleet={"workers": [*many, WORKERS[0]]}).splitlines()
    assert len(lines) <= 20
    assert "and 2" in lines[-1]
    # Who is busy is shown first.
    assert "gpu-bulk@here" in "\n".join(lines)


def test_what_is_missing_is_said() -> None:
    text = drawn(
        140,
        fleet={"workers": None, "running": None, "pools": None, "unavailable": ["postgresql"]},
        queues={"unavailable": ["redis"], "traffic_age_s": 60.0},
    )
    assert "postgresql does not answer" in text
    assert "redis does not answer" in text
    assert "no leader has looked at the queues for 60 s" in text
    assert "no worker is alive" in drawn(80, fleet={"workers": [], "pools": []})


def test_outside_a_terminal_it_is_printed_once(fleet: Fleet, monitored: Origin) -> None:
    said = fleet("top", "--url", monitored.url)
    assert said.code == 0
    assert "gpu-bulk@here" in said.out
    assert len(monitored.requests("GET", "/api/v1/monitoring/fleet")) == 1


def test_json_holds_both_pages(fleet: Fleet, monitored: Origin) -> None:
    said = fleet("top", "--json", "--url", monitored.url).json
    assert said["fleet"]["workers"][0]["name"] == "gpu-bulk@here"
    assert said["queues"]["queues"][0]["wait_s"] == 3700.0
    (asked,) = monitored.requests("GET", "/api/v1/monitoring/queues")
    assert asked.query == {"all": ["true"]}


def test_a_server_that_was_never_there_is_an_error(fleet: Fleet) -> None:
    said = fleet("top", "--url", "http://127.0.0.1:1")
    assert said.code == 5
    assert "fleet up" in said.err


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """-> the process, and the terminal's other end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, holds: Callable[[str], bool]) -> None:
    text, ends_at = "", time.monotonic() + 60
    while not holds(text):
        assert time.monotonic() < ends_at, text[-2000:]
        if select.select([terminal], [], [], 0.5)[0]:
            text += os.read(terminal, 65536).decode("utf-8", "replace")


def test_on_a_terminal_it_outlives_its_server_and_q_ends_it(monitored: Origin) -> None:
    with on_a_terminal("top", "--every", "0.2", "--url", monitored.url) as (process, terminal):
        read_until(terminal, lambda text: "gpu-bulk@here" in text)
        monitored.fail("GET", "/api/v1/monitoring", *[Drop] * 4)
        read_until(terminal, lambda text: "no answer for" in text)
        read_until(terminal, lambda text: "gpu-bulk@here" in last_frame(text) and "no answer" not in last_frame(text))
        os.write(terminal, b"q")
        read_until_closed(terminal)
        assert process.wait(20) == 0


def last_frame(text: str) -> str:
    """The last one that is there as a whole."""
    frames = text.split("Fleet at http")
    return frames[-2] if len(frames) > 2 else ""


def read_until_closed(terminal: int) -> None:
    """What it still has to say must be read, or it could not end."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return
