"""Starts children in their order, starts again those that end, and stops them in the reverse order.

Single-threaded: everything happens inside `launch`, `wait_ready`, `tick` and `stop`, called from the main thread.
"""

import time
from collections.abc import Callable, Sequence

from cli.stack import ports
from cli.stack.child import Child, ChildState
from cli.stack.interruption import Interruption
from cli.stack.journal import Journal
from cli.stack.logs import LogLimit, rotate, tail
from cli.stack.reap import PidFile
from fleet.errors import DependencyError, FleetError

#: Seconds between two looks at the sizes of the logs.
_ROTATE_EVERY_S = 2.0
_PORT_ATTEMPTS = 3


class Supervisor:
    """`groups` in the order of their start; the members of a group start and stop together.

    A healthy child is asked for its health every `probe_every_s`. `on_change` is called when a state has changed.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Child]],
        journal: Journal,
        pids: PidFile,
        interruption: Interruption,
        *,
        log_limit: LogLimit,
        ports_of: Callable[[Child], Sequence[int]],
        replace_ports: Callable[[Child], None],
        on_change: Callable[[], None],
        on_group_stopped: Callable[[], None] = lambda: None,
        probe_every_s: float = 5.0,
    ) -> None:
        self._groups = groups
        self._journal = journal
        self._pids = pids
        self._interruption = interruption
        self._log_limit = log_limit
        self._ports_of = ports_of
        self._replace_ports = replace_ports
        self._on_change = on_change
        self._on_group_stopped = on_group_stopped
        self._probe_every_s = probe_every_s
        self._next_probe: dict[str, float] = {}
        self._next_start: dict[str, float] = {}
        self._next_rotation = 0.0

    @property
    def children(self) -> list[Child]:
        return [child for group in self._groups for child in group]

    def launch(self, children: Sequence[Child]) -> None:
        """Starts them without waiting. Raises DependencyError, RunStopped `interrupted`."""
        for child in children:
            self._interruption.check()
            self._start(child)

    def wait_ready(self, children: Sequence[Child], limit_s: float) -> None:
        """Until all do their work. Raises DependencyError with the end of the log of one that does not, RunStopped."""
        deadline = time.monotonic() + limit_s
        attempts = dict.fromkeys((child.name for child in children), 1)
        waiting = list(children)
        pause = 0.01
        while waiting:
            for child in list(waiting):
                self._interruption.check()
                if child.ended():
                    attempts[child.name] += 1
                    self._start_elsewhere(child, attempts[child.name])
                elif child.probe():
                    waiting.remove(child)
                    self._told_healthy(child)
                elif child.start_limit_passed():
                    self._start_again_now(child)
            if waiting and time.monotonic() > deadline:
                raise _failed(waiting[0], f"was not ready after {limit_s:.0f} s ({waiting[0].fault})")
            if waiting:
                time.sleep(pause)
                pause = min(pause * 1.5, 0.1)

    def tick(self) -> None:
        """One round of watching; call it a few times a second. Never raises for a child that fails."""
        now = time.monotonic()
        for child in self.children:
            if child.state is ChildState.STOPPED:
                continue
            if child.state is ChildState.WAITING:
                if now >= self._next_start[child.name]:
                    self._try_start(child)
            elif child.ended():
                self._start_later(child)
            elif child.state is ChildState.STARTING or now >= self._next_probe.get(child.name, 0.0):
                self._check(child)
        if now >= self._next_rotation:
            self._next_rotation = now + _ROTATE_EVERY_S
            self.rotate_logs()

    def rotate_logs(self) -> None:
        for child in self.children:
            if child.log is not None and rotate(child.log, self._log_limit):
                self._journal.write("log rotated", process=child.name)

    def stop(self) -> None:
        """Ends all, the last group first. Safe to call at any time, and twice."""
        for group in reversed(self._groups):
            running = [child for child in group if child.pid is not None]
            for child in running:
                child.ask_to_stop()
            for child in running:
                begin = time.monotonic()
                code = child.stop(self._interruption)
                self._journal.write(f"{child.name} stopped", code=code, took_s=round(time.monotonic() - begin, 2))
            self._on_group_stopped()
        self._pids.remove()

    def _start(self, child: Child) -> None:
        pid = child.start()
        try:
            self._pids.record(child.name, pid, int(child.service.stop[0][0]))
        except OSError as error:
            self._journal.write("pids.json cannot be written", reason=error)
        self._journal.write(f"{child.name} started", pid=pid)
        self._on_change()

    def _try_start(self, child: Child) -> None:
        try:
            self._start(child)
        except FleetError as error:
            self._journal.write(f"{child.name} cannot be started", reason=error.message)
            self._start_later(child)

    def _start_later(self, child: Child) -> None:
        wait_s = child.backoff.after_run_of(child.age_s)
        self._next_start[child.name] = time.monotonic() + wait_s
        child.state = ChildState.WAITING
        child.restarts += 1
        child.fault = f"ended with code {child.last_exit}"
        self._journal.write(f"{child.name} ended", code=child.last_exit, again_in_s=wait_s)
        self._on_change()

    def _start_again_now(self, child: Child) -> None:
        self._journal.write(f"{child.name} is slow to start, starting it again", after_s=round(child.age_s, 1))
        child.stop(self._interruption)
        self._start(child)

    def _start_elsewhere(self, child: Child, attempt: int) -> None:
        """Between choosing a port and listening on it somebody may take it; then the child gets other ports."""
        taken = [port for port in self._ports_of(child) if not ports.is_free(port)]
        if not taken or attempt > _PORT_ATTEMPTS:
            raise _failed(child, f"ended with code {child.last_exit} while starting")
        self._journal.write(f"{child.name} lost its ports to somebody else", ports=taken)
        self._replace_ports(child)
        self._start(child)

    def _check(self, child: Child) -> None:
        before = child.state
        healthy = child.probe()
        if not healthy and child.start_limit_passed():
            self._start_again_now(child)
            return
        if child.hangs():
            reason = child.fault or "it hangs"
            self._journal.write(f"{child.name} hangs, killing it", reason=reason)
            child.kill(reason)
        self._next_probe[child.name] = time.monotonic() + self._probe_every_s
        if healthy and before is not ChildState.HEALTHY:
            self._told_healthy(child)
        elif not healthy and child.state is not before:
            self._journal.write(f"{child.name} does not answer", reason=child.fault)
            self._on_change()

    def _told_healthy(self, child: Child) -> None:
        self._next_probe[child.name] = time.monotonic() + self._probe_every_s
        self._journal.write(f"{child.name} healthy", after_s=round(child.age_s, 2))
        self._on_change()


def _failed(child: Child, what: str) -> DependencyError:
    end_of_log = tail(child.log) if child.log is not None else ""
    return DependencyError(
        f"{child.name} {what}; its log is {child.log}" + (f" and ends:\n{end_of_log}" if end_of_log else ""),
        code="process-not-ready",
        process=child.name,
    )
