"""One supervised process: started in a session of its own, its end asked for politely, its silence not borne for ever.

               start            probe ok               exits
    stopped ─────────▶ starting ─────────▶ healthy ───────────▶ waiting ──(back-off)──▶ starting
                          │                   ▲ │ probe fails
                          └── exits ─▶ ...    └─┴─▶ unhealthy ──(hangs)──▶ killed ─▶ waiting ─▶ ...

Children must be started from the main thread: the kernel sends the death signal when the *thread* that forked ends.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from cli.stack.backoff import Backoff
from cli.stack.death_signal import die_with_parent, forking
from cli.stack.evidence import how_it_ended, oom_kills
from cli.stack.interruption import Interruption
from cli.stack.logs import open_log
from fleet.errors import DependencyError


class ChildState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    #: It ended by itself and will be started again.
    WAITING = "waiting"


@dataclass(frozen=True)
class Launch:
    """How to start a process this time. `environment` is all that it gets; `popen` may name another user."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    popen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """What a child is. Nothing here is running."""

    name: str
    #: Called before every start: writes what the process reads, clears what a former one left.
    prepare: Callable[[], Launch]
    #: Raises DependencyError until the process (its pid is given) does its work.
    ready: Callable[[int], None]
    #: The same while it runs, cheaper where that is possible; `ready` when None.
    alive: Callable[[int], None] | None = None
    #: Raises DependencyError when the process itself hangs, whatever its servers do; after `hangs_after_s` of that it
    #: is to be killed. None: it is never killed for its silence.
    vital: Callable[[int], None] | None = None
    hangs_after_s: float = 15.0
    #: Told of its end: pid, exit code (negative for a signal), and how it ended in words.
    ended: Callable[[int, int, str], None] | None = None
    #: Signals that ask for its end and the seconds to wait after each; SIGKILL to its group comes last.
    stop: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 10.0),)
    #: What it gets when the supervisor dies.
    death_signal: signal.Signals = signal.SIGTERM
    #: Start it again when it is not ready after so many seconds; once for each entry.
    start_limits_s: Sequence[float] = ()
    #: Roles in `stack.json` whose ports it listens on.
    ports: Sequence[str] = ()


class Child:
    """The running side of a Service."""

    def __init__(self, service: Service, log: Path | None) -> None:
        """Without a log its output goes where ours goes."""
        self.service = service
        self.name = service.name
        self.log = log
        self.state = ChildState.STOPPED
        self.restarts = 0
        self.last_exit: int | None = None
        self.fault: str | None = None
        self.started_at: float | None = None
        self.backoff = Backoff()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._start_limits_s = list(service.start_limits_s)
        self._asked = False
        self._leads_group = False
        self._killed_for: str | None = None
        self._oom_kills: int | None = None
        self._silent_since: float | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def age_s(self) -> float:
        """Seconds since the latest start."""
        return time.monotonic() - self._started

    def start(self) -> int:
        """Returns the pid. Raises DependencyError `process-not-started` when the program cannot be run."""
        try:
            launch = self.service.prepare()
            output = open_log(self.log) if self.log is not None else None
        except OSError as error:
            raise DependencyError(f"{self.name} cannot be prepared: {error}", code="process-not-started") from error
        try:
            with forking():
                self._process = subprocess.Popen(
                    list(launch.argv),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=None if output is None else subprocess.STDOUT,
                    cwd=launch.cwd,
                    env=dict(launch.environment),
                    # Ctrl-C in the terminal must reach the supervisor alone: the order of the stop is its business.
                    start_new_session=True,
                    preexec_fn=die_with_parent(self.service.death_signal),  # noqa: PLW1509 (see forking)
                    **launch.popen,
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise DependencyError(
                f"{self.name} cannot be started: {error}", code="process-not-started", program=str(launch.argv[0])
            ) from error
        finally:
            if output is not None:
                os.close(output)
        self._started = time.monotonic()
        self._asked = False
        self._leads_group = True
        self._killed_for = self._silent_since = None
        self._oom_kills = oom_kills()
        self.started_at = time.time()
        self.state = ChildState.STARTING
        self.fault = "starting"
        return self._process.pid

    def ended(self) -> bool:
        """Whether the process has exited; then `last_exit` is its code, negative for a signal."""
        if self._process is None:
            return True
        code = self._process.poll()
        if code is None:
            return False
        if self._leads_group:
            self._leads_group = False
            self.last_exit = code
            # What a killed process had started goes with it.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            if self.service.ended is not None:
                how = how_it_ended(code, killed_for=self._killed_for, oom_kills=self._oom_kills_since_start())
                self.service.ended(self._process.pid, code, how)
        return True

    def probe(self) -> bool:
        """Asks the process whether it does its work, and notes the answer in `state` and `fault`."""
        if self._process is None:
            return False
        first = self.state is ChildState.STARTING
        check = self.service.ready if first or self.service.alive is None else self.service.alive
        try:
            check(self._process.pid)
        except DependencyError as error:
            self.fault = str(error)
            if not first:
                self.state = ChildState.UNHEALTHY
            return False
        self.fault = None
        self.state = ChildState.HEALTHY
        self._start_limits_s = list(self.service.start_limits_s)
        return True

    def hangs(self) -> bool:
        """Whether it has shown no sign of life for longer than its service allows. While it starts it does not hang."""
        if self.service.vital is None or self._process is None or self.state is ChildState.STARTING:
            return False
        try:
            self.service.vital(self._process.pid)
        except DependencyError as error:
            self.fault = str(error)
            self._silent_since = self._silent_since or time.monotonic()
            return time.monotonic() - self._silent_since > self.service.hangs_after_s
        self._silent_since = None
        return False

    def kill(self, reason: str) -> None:
        """Ends it at once, with all that it had started; `ended` tells when that has happened."""
        if self._process is not None and not self.ended():
            self._killed_for = reason
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def start_limit_passed(self) -> bool:
        """Whether the next of the service's start limits has run out; each is told once."""
        if self.state is ChildState.STARTING and self._start_limits_s and self.age_s > self._start_limits_s[0]:
            self._start_limits_s.pop(0)
            return True
        return False

    def ask_to_stop(self) -> None:
        """Sends the first stop signal, so that several children can be on their way out at once."""
        if not self.ended() and not self._asked:
            self.send(self.service.stop[0][0])
            # Once only: to many servers a second signal means "at once, and never mind the work".
            self._asked = True

    def stop(self, interruption: Interruption | None = None) -> int | None:
        """Ends the process and returns its exit code; None when it never ran. An impatient user shortens every wait."""
        if self._process is None:
            return None
        self.ask_to_stop()
        for stage, (number, grace_s) in enumerate(self.service.stop):
            if self.ended():
                break
            if stage > 0:
                self.send(number)
            self._wait(grace_s, interruption)
        if not self.ended():
            self.kill("it did not end when it was asked to")
            self._process.wait()
            self.ended()
        self._process = None
        self.state = ChildState.STOPPED
        self.fault = None
        return self.last_exit

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _oom_kills_since_start(self) -> int:
        now = oom_kills()
        return now - self._oom_kills if now is not None and self._oom_kills is not None else 0

    def _wait(self, limit_s: float, interruption: Interruption | None) -> None:
        begin = time.monotonic()
        pause = 0.005
        while not self.ended():
            waited = time.monotonic() - begin
            if waited > limit_s or (interruption is not None and interruption.impatient and waited > 1.0):
                return
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
