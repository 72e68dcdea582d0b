"""Processes that freeze or crash: killed and started again by whoever watches them, and told of to the record."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cli.stack.backoff import Backoff
from cli.stack.burials import Burials
from cli.stack.child import Child, ChildState, Launch, Service
from cli.stack.evidence import how_it_ended, oom_kills
from cli.stack.interruption import Interruption
from cli.stack.journal import Journal
from cli.stack.logs import LogLimit
from cli.stack.pulse_check import PulseCheck, takes_jobs
from cli.stack.reap import PidFile
from cli.stack.supervisor import Supervisor
from cli.watch.watched import WatchedProcess
from cli.watch.watcher import Watcher
from fleet.errors import DependencyError
from fleet.settings import Settings
from tests.support.fleet_of_one import environment_of, job_store, new_job
from tests.support.tcp_proxy import Proxy
from tests.support.waiting import eventually

#: Beats like a worker, and does what it is told through a file.
BEATING = """
import os, pathlib, sys, time
pulse, order = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
pulse.write_text(str(os.getpid()))
while True:
    os.utime(pulse)
    if order.exists():
        code = int(order.read_text())
        order.unlink()
        if code < 0:
            os.kill(os.getpid(), -code)
        sys.exit(code)
    time.sleep(0.02)
"""
Told = list[tuple[int, int, str]]


def beating(folder: Path, told: Told) -> Service:
    pulse = folder / "pulse"

    def prepare() -> Launch:
        pulse.unlink(missing_ok=True)
        return Launch([sys.executable, "-c", BEATING, str(pulse), str(folder / "order")], os.environ, folder)

    return Service(
        "beating",
        prepare,
        ready=lambda pid: takes_jobs(pulse, pid),
        vital=PulseCheck(pulse, silent_s=1.0),
        hangs_after_s=0.5,
        ended=lambda pid, code, how: told.append((pid, code, how)),
    )


def supervised(folder: Path, service: Service) -> Supervisor:
    return Supervisor(
        [[Child(service, folder / "child.log")]],
        Journal(folder / "supervisor.log"),
        PidFile(folder / "pids.json"),
        Interruption(),
        log_limit=LogLimit(),
        ports_of=lambda _child: [],
        replace_ports=lambda _child: None,
        on_change=lambda: None,
        probe_every_s=0.05,
    )


def test_frozen_child_is_killed_started_again_and_the_journal_says_so(tmp_path: Path) -> None:
    told: Told = []
    supervisor = supervised(tmp_path, beating(tmp_path, told))
    (child,) = supervisor.children

    def healthy_again() -> bool:
        supervisor.tick()
        return child.state is ChildState.HEALTHY and child.pid != frozen

    try:
        supervisor.launch([child])
        supervisor.wait_ready([child], 30)
        frozen = child.pid
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)
        eventually(healthy_again)
    finally:
        supervisor.stop()
    journal = (tmp_path / "supervisor.log").read_text("utf-8")
    assert "beating hangs, killing it reason=no sign of life for" in journal
    assert told[0][:2] == (frozen, -signal.SIGKILL)
    assert told[0][2].startswith("killed by whoever watched it: no sign of life for")


def test_child_whose_servers_are_away_lives_on(tmp_path: Path) -> None:
    def servers_are_away(_pid: int) -> None:
        if away:
            raise DependencyError("PostgreSQL is away")

    away = False
    service = beating(tmp_path, [])
    service = Service("beating", service.prepare, servers_are_away, vital=service.vital, hangs_after_s=0.1)
    supervisor = supervised(tmp_path, service)
    (child,) = supervisor.children
    try:
        supervisor.launch([child])
        supervisor.wait_ready([child], 30)
        eventually((tmp_path / "pulse").exists)
        pid, away, until = child.pid, True, time.monotonic() + 2.0
        while time.monotonic() < until:
            supervisor.tick()
            time.sleep(0.02)
        assert (child.pid, child.state) == (pid, ChildState.UNHEALTHY)
    finally:
        supervisor.stop()


class Watched:
    """A watcher in this thread; `steps` are done one after the other, each as soon as its child is up again."""

    def __init__(self, folder: Path, *steps: Callable[[int], object]) -> None:
        self.told: Told = []
        self.lines: list[str] = []
        self.pids: list[int] = []
        self._steps = list(steps)
        self._child = Child(beating(folder, self.told), None)
        self._child.backoff = Backoff(first_s=0.01, most_s=0.02)
        watched = WatchedProcess(self._child, self._tell, check_every_s=0.05)
        self._watcher = Watcher([watched], Burials(os.environ, folder, quiet=True), self._tell)
        self._probe = self._child.probe
        self._child.probe = self._probed  # type: ignore[method-assign]

    def run(self) -> int:
        return self._watcher.run()

    def _tell(self, event: str, **_: object) -> None:
        self.lines.append(event)

    def _probed(self) -> bool:
        up, pid = self._probe(), self._child.pid
        if up and pid is not None and pid not in self.pids:
            self.pids.append(pid)
            self._steps.pop(0)(pid)
        return up


def test_watcher_restarts_what_crashes_and_what_freezes_and_ends_with_a_drain(tmp_path: Path) -> None:
    order = tmp_path / "order"
    watched = Watched(
        tmp_path,
        lambda _pid: order.write_text(str(-signal.SIGSEGV)),
        lambda _pid: order.write_text("71"),
        lambda pid: os.kill(pid, signal.SIGSTOP),
        lambda _pid: order.write_text("0"),
    )
    assert watched.run() == 0
    assert [pid for pid, _, _ in watched.told] == watched.pids
    assert len(set(watched.pids)) == 4
    crashed, hung, frozen, drained = (how for _, _, how in watched.told)
    assert crashed == "killed by SIGSEGV"
    assert hung == "ended with exit code 71: its event loop or its lease keeper hung"
    assert frozen.startswith("killed by whoever watched it: no sign of life")
    assert drained == "ended with exit code 0: it had drained"
    assert watched.lines.count("worker is started again") == 3


def test_watcher_does_not_restart_what_cannot_keep_its_promise(tmp_path: Path) -> None:
    watched = Watched(tmp_path, lambda _pid: (tmp_path / "order").write_text("2"))
    assert watched.run() == 2
    assert len(watched.pids) == 1


def test_watcher_that_is_asked_to_stop_ends_with_its_worker_whatever_became_of_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, lambda _pid: os.kill(os.getpid(), signal.SIGTERM))
    assert watched.run() == 0
    assert watched.told[0][1] == -signal.SIGTERM
    assert not psutil.pid_exists(watched.pids[0])


def test_frozen_worker_that_is_asked_to_stop_is_killed(tmp_path: Path) -> None:
    def freeze_and_ask(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGTERM)

    watched = Watched(tmp_path, freeze_and_ask)
    assert watched.run() == 128 + signal.SIGKILL
    assert not psutil.pid_exists(watched.pids[0])


def test_lack_of_memory_is_suspected_only_behind_a_kill() -> None:
    assert how_it_ended(-signal.SIGKILL) == "killed by SIGKILL"
    with_hint = how_it_ended(-signal.SIGKILL, oom_kills=1)
    assert with_hint == "killed by SIGKILL; the kernel killed for lack of memory meanwhile"
    assert how_it_ended(-signal.SIGSEGV, oom_kills=1) == "killed by SIGSEGV"
    assert how_it_ended(70) == "ended with exit code 70: a run did not stop when it was told to"
    assert how_it_ended(33) == "ended with exit code 33"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts them")
def test_kernel_tells_how_often_it_killed_for_lack_of_memory() -> None:
    count = oom_kills()
    assert count is not None
    assert count >= 0


def test_burial_waits_for_a_record_that_is_away_and_holds_nobody_up(settings: Settings, tmp_path: Path) -> None:
    port = int(settings.database_dsn.rpartition(":")[2].partition("/")[0])
    proxy = Proxy(port)
    proxy.cut()
    environment = environment_of(settings, DATABASE_URL=settings.database_dsn.replace(f":{port}/", f":{proxy.port}/"))
    burials = Burials(environment, tmp_path, quiet=True)
    with job_store(settings) as jobs:
        job = jobs.submit(new_job()).job
        assert jobs.claim(job.id, "w1", 600.0) is not None
        burials.bury("w1", os.getpid(), -signal.SIGKILL, "killed by SIGKILL")
        time.sleep(1.0)
        proxy.mend()

        def another_can_take_it() -> bool:
            return jobs.claim(job.id, "w2", 30.0) is not None

        eventually(another_can_take_it)
    burials.settle(10.0)
    proxy.cut()


def test_worker_that_drained_or_never_began_is_not_buried(tmp_path: Path) -> None:
    burials = Burials(os.environ, tmp_path, quiet=True)
    for code in (0, 2):
        burials.bury("w1", 1, code, "")
    assert burials._under_way == []


def test_pulse_that_nobody_has_seen_yet_is_not_missed(tmp_path: Path) -> None:
    check = PulseCheck(tmp_path / "pulse", silent_s=0.0)
    check(1)
    (tmp_path / "pulse").write_text("1")
    check(1)
    time.sleep(0.01)
    with pytest.raises(DependencyError, match="no sign of life"):
        check(1)
    check(2)  # another process has its time from when it is first seen
