"""Processes that parse strangers' files, as the worker sees them: asked line by line, and killed without regret.

Kept warm between jobs; one that crashed, hung or was no longer wanted is killed and never used again.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from fleet import errors
from fleet.errors import DependencyError, FleetError, InputError
from worker.children import bare_environment
from worker.media.limits import Admit

_TICK_S = 0.05
_ANSWER_BYTES = 16 * 1024**2
#: From the end of a child's answers to its own end.
_DEATH_S = 5.0


class Child:
    """`python -m module arguments`; worker/media/confined.py is its side. It keeps the file descriptors `kept`."""

    def __init__(self, module: str, arguments: Sequence[str] = (), kept: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            pass_fds=kept,
            # A Ctrl-C meant for the worker must not end a decode that is still wanted.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        if self._process.poll() is None:
            return True
        self.kill()
        return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def ask(self, request: dict[str, Any], limit_s: float, check: Callable[[], None], admit: Admit) -> dict[str, Any]:
        """The child's answer. Time that it waits for memory is not its own."""
        self._say(request)
        end = time.monotonic() + limit_s
        while True:
            try:
                word: dict[str, Any] = json.loads(self._line(end, check))
            except TimeoutError as error:
                raise InputError(
                    f"decoding this input took longer than {limit_s:g} s and was stopped", code="decoder-timeout"
                ) from error
            if "asks" not in word:
                return word
            asked, began = word["asks"], time.monotonic()
            admit(asked["what"], asked["memory_bytes"], asked["scratch_bytes"])
            end += time.monotonic() - began
            self._say({"granted": True})

    def _say(self, word: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(word).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._death() from error

    def _line(self, end: float, check: Callable[[], None]) -> bytes:
        """One line from the child, or its death. Raises TimeoutError past this moment of the monotonic clock."""
        assert self._process.stdout is not None  # noqa: S101
        pipe = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN | select.POLLHUP)
        line = b""
        while not line.endswith(b"\n"):
            check()
            if time.monotonic() > end:
                raise TimeoutError
            if poll.poll(_TICK_S * 1000):
                part = os.read(pipe, 65536)
                if not part:
                    raise self._death()
                if len(line) > _ANSWER_BYTES:
                    raise crashed()
                line += part
        return line

    def _death(self) -> FleetError:
        """Why the child is gone. It was not this object: `kill` comes after the last word with a child."""
        try:
            status = self._process.wait(_DEATH_S)
        except subprocess.TimeoutExpired:
            return crashed()
        if status != -signal.SIGKILL:
            return crashed()
        return DependencyError(
            "the decoder was killed from outside, most likely because the machine's memory ran out",
            code="decoder-killed",
        )


ChildT = TypeVar("ChildT", bound=Child)
T = TypeVar("T")


class Children(Generic[ChildT]):
    """Keeps at most `most_idle`. Thread-safe. `close` ends the idle ones; those at work end with their work.

    patience_s: while so many are at work, how long who wants one more waits for one of them. Not for ever: they may
    wait for memory that this very run holds.
    """

    def __init__(self, start: Callable[[], ChildT], most_idle: int, patience_s: float = 0.0) -> None:
        self._start = start
        self._most_idle = most_idle
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._idle: list[ChildT] = []
        self._at_work = 0
        self._closed = False

    def prewarm(self) -> None:
        """Starts one without waiting for it."""
        self._keep(self._start())

    def ask(
        self,
        request: dict[str, Any],
        limit_s: float,
        check: Callable[[], None],
        admit: Admit,
        taken: Callable[[ChildT, dict[str, Any]], T],
    ) -> T:
        """What `taken` makes of the answer of one of them, which is used again only where it says that it may be.

        Raises as `Child.ask`, and as `taken`: either ends the child.
        """
        with self._place(check):
            child = self._one()
            try:
                answer = child.ask(request, limit_s, check, admit)
                result = taken(child, answer)
            except BaseException:
                child.kill()
                raise
            if answer.get("reusable"):
                self._keep(child)
            else:
                child.kill()
                # The next job still finds one with its libraries loaded.
                self.prewarm()
        return result

    @contextmanager
    def _place(self, check: Callable[[], None]) -> Iterator[None]:
        end = time.monotonic() + self._patience_s
        with self._changed:
            while self._at_work >= self._most_idle and (left_s := end - time.monotonic()) > 0:
                check()
                self._changed.wait(min(left_s, _TICK_S))
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify()

    def _one(self) -> ChildT:
        with self._changed:
            while self._idle:
                child = self._idle.pop()
                if child.alive():
                    return child
        return self._start()

    def _keep(self, child: ChildT) -> None:
        with self._changed:
            if not self._closed and len(self._idle) < self._most_idle:
                self._idle.append(child)
                return
        child.kill()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill()


def _environment() -> dict[str, str]:
    """No passwords for a process that reads strangers' files, and few threads."""
    return bare_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS="2")


def crashed() -> InputError:
    return InputError(
        "the decoder died while reading this input: the file is damaged or hostile", code="decoder-crashed"
    )


def raise_fault(answer: dict[str, Any]) -> None:
    """Raises what the child says was wrong; nothing when it says that nothing was."""
    if "fault" in answer:
        fault = answer["fault"]
        kind = getattr(errors, fault["kind"], InputError)
        raised: FleetError = kind(fault["message"], code=fault["code"], **fault["facts"])
        raise raised
    if "crash" in answer:
        raise InputError(
            f"the decoder failed on this input ({answer['crash']}); if the file is sound, this is our fault",
            code="decoder-failed",
        )
