"""The inner side of a process that parses strangers' files; worker/media/child.py is the outer one.

One JSON request per line on stdin, one JSON answer per line on what was stdout; it ends when stdin closes. Before an
answer it may ask for memory, `{"asks": ...}`, and goes on when a line comes back. It has no environment of ours, may
map only so much memory, and may be killed at any moment: nothing but scratch files is lost.
"""

import errno
import json
import os
import resource
import select
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from fleet.errors import DependencyError, FleetError, InputTooLarge
from worker.children import die_first, limit_growth, step_back_in_session
from worker.media.limits import Admit

#: What a disk or a missing scratch folder answers, and no content of a file can provoke.
_DISK = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENODEV, errno.ESTALE),
        *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE),
    }
)
#: What thread stacks and the allocator map beyond what is asked.
_SLACK_BYTES = 64 * 1024**2


def serve(answer: Callable[[dict[str, Any], Admit], dict[str, Any]]) -> None:
    """Answers requests until there are no more."""
    # C and C++ parsers print to both streams, file names and all: neither may reach a log or the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    die_first()
    step_back_in_session()
    while line := sys.stdin.readline():
        _say(answers, answer(json.loads(line), partial(_ask, answers)))


def _say(answers: TextIO, word: dict[str, Any]) -> None:
    answers.write(json.dumps(word) + "\n")
    answers.flush()


def _ask(answers: TextIO, what: str, memory_bytes: int, scratch_bytes: int) -> None:
    """Waits for the worker's leave, and holds itself to what it asked for: a file that lied ends this process alone."""
    _say(answers, {"asks": {"what": what, "memory_bytes": memory_bytes, "scratch_bytes": scratch_bytes}})
    if not sys.stdin.readline():
        sys.exit()
    limit_growth(memory_bytes + _SLACK_BYTES)


def wanted() -> None:
    """Ends this process when the worker is gone: called during long work, in which nothing is read or said."""
    end = select.poll()
    # No events but the one that is always told: that nobody holds the other end any more.
    end.register(0, 0)
    if end.poll(0):
        sys.exit()


def caught(work: Callable[[], dict[str, Any]], too_large: str) -> dict[str, Any]:
    """The answer that the work gives, or what went wrong; `too_large` says so of what outgrew its limits."""
    try:
        return work()
    except MemoryError:
        return _fault(InputTooLarge(too_large, code="too-many-bytes"))
    except FleetError as error:
        return _fault(error)
    except OSError as error:
        return _os_fault(error, too_large)
    except Exception as error:  # noqa: BLE001 - whatever a hostile file provoked is reported by its place alone
        return _crash(error)


def _os_fault(error: OSError, too_large: str) -> dict[str, Any]:
    # Past RLIMIT_FSIZE: the input unpacks to more than was set aside.
    if error.errno == errno.EFBIG:
        return _fault(InputTooLarge(too_large, code="too-many-bytes"))
    if error.errno in _DISK:
        return _fault(DependencyError(f"the worker's disk failed: {error.strerror}", code="worker-disk"))
    return _crash(error)


def _crash(error: Exception) -> dict[str, Any]:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return {"crash": f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"}


def _fault(error: FleetError) -> dict[str, Any]:
    return {
        "fault": {
            "kind": type(error).__name__,
            "message": error.message,
            "code": error.code,
            "facts": error.facts,
        }
    }


def confine(*, unasked_bytes: int, address_space_bytes: int, file_bytes: int, seconds: float) -> None:
    """Soft limits for a request: memory, written files, and processor time should the parent be gone."""
    limit_growth(unasked_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    for kind, soft in (
        (resource.RLIMIT_AS, address_space_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + 4 * seconds) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        # Some systems refuse some of these; macOS does not bound address space.
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
