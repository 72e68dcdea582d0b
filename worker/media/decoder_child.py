"""The process that parses strangers' files: `python -m worker.media.decoder_child`, started by sandbox.py.

One JSON request per line on stdin, one JSON answer per line on what was stdout; it ends when stdin closes. Before an
answer it may ask for memory, `{"asks": ...}`, and goes on when a line comes back. It has no environment of ours, may
map only so much memory, and may be killed at any moment: nothing but scratch files is lost.
"""

import errno
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import SimpleITK as sitk

from fleet.errors import DependencyError, FleetError, InputTooLarge
from worker.children import die_first, limit_growth, step_back_in_session
from worker.media.decode import decode
from worker.media.limits import VolumeLimits
from worker.media.sniff import Format, sniff

#: What a disk or a missing scratch folder answers, and no content of a file can provoke.
_DISK = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENODEV, errno.ESTALE),
        *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE),
    }
)
#: Before it asks: headers, a zip's list of files. And what thread stacks and the allocator map beyond what is asked.
_UNASKED_BYTES = 256 * 1024**2
_SLACK_BYTES = 64 * 1024**2


def main() -> None:
    # C++ parsers print to both streams, file names and all: neither may reach a log or the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    die_first()
    step_back_in_session()
    while line := sys.stdin.readline():
        request = json.loads(line)
        answer = _answer(request, partial(_ask, answers))
        _say(answers, answer | {"reusable": not _is_archive(Path(request["path"]))})


def _say(answers: TextIO, word: dict[str, Any]) -> None:
    answers.write(json.dumps(word) + "\n")
    answers.flush()


def _ask(answers: TextIO, what: str, memory_bytes: int, scratch_bytes: int) -> None:
    """Waits for the worker's leave, and holds itself to what it asked for: a file that lied ends this process alone."""
    _say(answers, {"asks": {"what": what, "memory_bytes": memory_bytes, "scratch_bytes": scratch_bytes}})
    if not sys.stdin.readline():
        sys.exit()
    limit_growth(memory_bytes + _SLACK_BYTES)


def _answer(request: dict[str, Any], ask: Callable[[str, int, int], None]) -> dict[str, Any]:
    limits = VolumeLimits(**request["limits"])
    _confine(limits)
    try:
        decoded = decode(Path(request["path"]), limits, Path(request["scratch"]), request["series_uid"], admit=ask)
    except MemoryError:
        return _fault(_too_large())
    except FleetError as error:
        return _fault(error)
    except OSError as error:
        return _os_fault(error)
    except Exception as error:  # noqa: BLE001 - whatever a hostile file provoked is reported by its place alone
        return _crash(error)
    return {"decoded": asdict(decoded) | {"voxels": str(decoded.voxels)}}


def _is_archive(path: Path) -> bool:
    """Whether it may have held DICOM, whose decoder can leave voxels of one job in memory that the next reads."""
    try:
        with path.open("rb") as file:
            return sniff(file.read(4096)) is Format.ZIP
    except OSError:
        return False


def _os_fault(error: OSError) -> dict[str, Any]:
    # Past RLIMIT_FSIZE: the input unpacks to more than was set aside.
    if error.errno == errno.EFBIG:
        return _fault(_too_large())
    if error.errno in _DISK:
        return _fault(DependencyError(f"the worker's disk failed: {error.strerror}", code="worker-disk"))
    return _crash(error)


def _too_large() -> InputTooLarge:
    return InputTooLarge("the volume does not fit into the memory set aside for decoding", code="too-many-bytes")


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


def _confine(limits: VolumeLimits) -> None:
    """Soft limits for this request: memory, written files, and processor time should the parent be gone."""
    limit_growth(_UNASKED_BYTES)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + 4 * limits.max_seconds) + 1
    for kind, soft in (
        (resource.RLIMIT_AS, limits.address_space_bytes),
        (resource.RLIMIT_FSIZE, limits.max_bytes + 64 * 1024**2),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        # Some systems refuse some of these; macOS does not bound address space.
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


if __name__ == "__main__":
    main()
