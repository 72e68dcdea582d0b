"""The watcher over several processes: what happens to one is not the others' business, until all are over."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cli.stack.backoff import Backoff
from cli.stack.burials import Burials
from cli.stack.child import Child, Launch, Service
from cli.stack.pulse_check import PulseCheck, takes_jobs
from cli.watch.shared_pulse import SharedPulse
from cli.watch.watched import WatchedProcess
from cli.watch.watcher import Watcher

#: Takes jobs as soon as it runs, and ends with the code that it finds in a file.
WORKING = """
import os, pathlib, signal, sys, time
pulse, order = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if not order.exists():
    pulse.write_text(str(os.getpid()))
while not order.exists():
    time.sleep(0.02)
sys.exit(int(order.read_text()))
"""


class Several:
    """A watcher in this thread over children of these names; `step` is called all the time, from the first start on."""

    def __init__(self, folder: Path, *names: str, broken_s: float = 300.0) -> None:
        self.folder = folder
        self.pulse = folder / "ready"
        self.lines: list[tuple[str, str]] = []
        self.children = {name: Child(self._service(name), None) for name in names}
        self._step: Callable[[], object] = lambda: None
        processes = [
            WatchedProcess(child, self._tell, check_every_s=0.05, broken_s=broken_s) for child in self.children.values()
        ]
        for child in self.children.values():
            child.backoff = Backoff(first_s=0.01, most_s=0.02)
        self._watcher = Watcher(processes, Burials(os.environ, folder, quiet=True), self._tell, SharedPulse(self.pulse))

    def run(self, step: Callable[[], object] = lambda: None) -> int:
        self._step = step
        return self._watcher.run()

    def order(self, name: str, code: int) -> None:
        (self.folder / f"{name}.order").write_text(str(code), "ascii")

    def starts(self, name: str) -> int:
        return self.lines.count((name, "worker started"))

    def _tell(self, event: str, **facts: object) -> None:
        self.lines.append((str(facts.get("worker")), event))

    def _service(self, name: str) -> Service:
        ready, order = self.folder / f"{name}.ready", self.folder / f"{name}.order"

        def prepare() -> Launch:
            ready.unlink(missing_ok=True)
            return Launch([sys.executable, "-c", WORKING, str(ready), str(order)], os.environ, self.folder)

        def ready_now(pid: int) -> None:
            # Asked in every round: where the test takes its steps.
            self._step()
            takes_jobs(ready, pid)

        return Service(name, prepare, ready=ready_now, vital=PulseCheck(ready))


def test_device_that_cannot_keep_its_promise_does_not_take_the_others_down(tmp_path: Path) -> None:
    several = Several(tmp_path, "gpu0", "gpu1", broken_s=0.2)
    several.order("gpu0", 2)
    seen: list[str] = []

    def step() -> None:
        # It is tried again, in vain, while the other works on and the file speaks for the other alone.
        if several.starts("gpu0") >= 3 and several.pulse.exists() and not seen:
            seen.append(several.pulse.read_text("ascii"))
            (tmp_path / "gpu0.order").unlink()
        elif seen and (tmp_path / "gpu0.ready").exists():
            os.kill(os.getpid(), signal.SIGTERM)

    assert several.run(step) == 0
    assert seen == [str(os.getpid())]
    assert several.starts("gpu1") == 1
    assert any("cannot keep its promise" in event for _, event in several.lines)


def test_command_ends_with_two_when_no_device_keeps_its_promise(tmp_path: Path) -> None:
    several = Several(tmp_path, "gpu0", "gpu1")
    for name in several.children:
        several.order(name, 2)
    assert several.run() == 2
    assert (several.starts("gpu0"), several.starts("gpu1")) == (1, 1)
    assert not several.pulse.exists()


def test_one_that_was_drained_by_itself_is_left_and_the_last_ends_the_command(tmp_path: Path) -> None:
    several = Several(tmp_path, "interactive", "bulk")
    moments: list[float] = []

    def step() -> None:
        both = all((tmp_path / f"{name}.ready").exists() for name in several.children)
        if both and not moments:
            several.order("bulk", 0)
            moments.append(time.monotonic())
        elif moments and time.monotonic() - moments[0] > 1.0:
            several.order("interactive", 0)

    assert several.run(step) == 0
    assert (several.starts("interactive"), several.starts("bulk")) == (1, 1)


def test_worst_code_of_those_that_were_stopped_is_that_of_the_command(tmp_path: Path) -> None:
    several = Several(tmp_path, "one", "two")
    killed: list[int] = []

    def step() -> None:
        pid = several.children["two"].pid
        if not killed and pid is not None and all((tmp_path / f"{name}.ready").exists() for name in several.children):
            killed.append(pid)
            # Frozen, so that it is the kill that ends it and not the stop.
            psutil.Process(pid).suspend()
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(pid, signal.SIGKILL)

    assert several.run(step) == 128 + signal.SIGKILL
    assert not any(psutil.pid_exists(child.pid or 0) for child in several.children.values())
