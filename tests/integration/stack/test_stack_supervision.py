"""The supervisor by itself: bounded logs, back-off, health. Its children are small real processes, or Valkey alone."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from cli.stack import valkey
from cli.stack.child import Child, ChildState, Launch, Service
from cli.stack.interruption import Interruption
from cli.stack.journal import Journal
from cli.stack.layout import Layout
from cli.stack.logs import LogLimit
from cli.stack.reap import PidFile
from cli.stack.state import State
from cli.stack.supervisor import Supervisor
from fleet.errors import DependencyError
from tests.support.waiting import eventually

LIMIT = LogLimit(max_bytes=20_000, generations=2)
TALKER = """
import sys, time
for number in range(10**9):
    print(f"line {number:09}", flush=True)
    if number % 100 == 0:
        time.sleep(0.001)
"""


def supervised(folder: Path, service: Service) -> Supervisor:
    return Supervisor(
        [[Child(service, folder / f"{service.name}.log")]],
        Journal(folder / "supervisor.log"),
        PidFile(folder / "pids.json"),
        Interruption(),
        log_limit=LIMIT,
        ports_of=lambda _child: [],
        replace_ports=lambda _child: None,
        on_change=lambda: None,
        probe_every_s=0.1,
    )


def talker(folder: Path, program: str) -> Service:
    def prepare() -> Launch:
        return Launch([sys.executable, "-c", program], os.environ, folder)

    def ready(_pid: int) -> None:
        if not log.stat().st_size:
            raise DependencyError("it has said nothing yet")

    log = folder / "talker.log"
    return Service("talker", prepare, ready, stop=((signal.SIGTERM, 5.0),))


def test_log_of_a_talkative_child_is_rotated_and_bounded_while_it_goes_on_writing(tmp_path: Path) -> None:
    supervisor = supervised(tmp_path, talker(tmp_path, TALKER))
    log = tmp_path / "talker.log"
    largest = 0
    try:
        supervisor.launch(supervisor.children)
        supervisor.wait_ready(supervisor.children, 30)
        for _ in range(6):
            eventually(lambda: log.stat().st_size > LIMIT.max_bytes)
            largest = max(largest, log.stat().st_size)
            supervisor.rotate_logs()
    finally:
        supervisor.stop()
    generations = sorted(path.name for path in tmp_path.glob("talker.log*"))
    assert generations == ["talker.log", "talker.log.1", "talker.log.2"]
    # A generation is what was there when the supervisor looked, plus what came while it copied.
    assert all((tmp_path / name).stat().st_size < largest + 200_000 for name in generations)
    older, newer = ((tmp_path / name).read_text("ascii").splitlines() for name in ("talker.log.2", "talker.log.1"))
    assert all(line.startswith("line ") for line in (*older[1:-1], *newer[1:-1]))
    assert older[1] < newer[1]


def test_child_that_keeps_ending_is_started_again_after_longer_and_longer_waits(tmp_path: Path) -> None:
    supervisor = supervised(tmp_path, talker(tmp_path, "print('up', flush=True)"))
    (child,) = supervisor.children
    try:
        supervisor.launch([child])

        def restarted_three_times() -> bool:
            supervisor.tick()
            return child.restarts >= 3

        eventually(restarted_three_times)
    finally:
        supervisor.stop()
    journal = (tmp_path / "supervisor.log").read_text("utf-8")
    waits = [line.rpartition("again_in_s=")[2] for line in journal.splitlines() if "again_in_s" in line]
    assert waits == ["0.5", "1.0", "2.0"]
    assert (tmp_path / "talker.log").read_text("ascii") == "up\n" * 3


def test_server_that_hangs_is_shown_as_unhealthy_until_it_answers_again(tmp_path: Path) -> None:
    layout, state = Layout(tmp_path / "data"), State()
    layout.create()
    state.complete(valkey.PORTS)
    supervisor = supervised(tmp_path, valkey.service(layout, state))
    (child,) = supervisor.children

    def state_is(wanted: ChildState) -> bool:
        supervisor.tick()
        return child.state is wanted

    try:
        supervisor.launch([child])
        supervisor.wait_ready([child], 30)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGSTOP)
        eventually(lambda: state_is(ChildState.UNHEALTHY))
        os.kill(child.pid, signal.SIGCONT)
        eventually(lambda: state_is(ChildState.HEALTHY))
    finally:
        supervisor.stop()
    assert child.restarts == 0


def test_child_that_ignores_its_stop_signals_is_killed_at_last(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
    service = replace(talker(tmp_path, stubborn), stop=((signal.SIGTERM, 0.1), (signal.SIGTERM, 0.1)))
    supervisor = supervised(tmp_path, service)
    supervisor.launch(supervisor.children)
    supervisor.wait_ready(supervisor.children, 30)
    supervisor.stop()
    assert supervisor.children[0].last_exit == -signal.SIGKILL
    assert not (tmp_path / "pids.json").exists()
