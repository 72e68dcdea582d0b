"""Decoding in killable child processes, kept warm between jobs.

One `Sandbox` per worker process, owned by its reader. Each decode has a child of its own while it lasts; a child
that crashes, hangs, has read an archive or is no longer wanted is killed and never used again.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker.contract import Geometry
from worker.media.child import Child, Children, raise_fault
from worker.media.decode import Decoded
from worker.media.limits import Admit, VolumeLimits

#: More than one decodes when several jobs come at once.
_MOST_IDLE = 64


class Sandbox:
    """Thread-safe. `close` ends idle children; those at work end with their decode."""

    def __init__(self) -> None:
        self._children = Children(lambda: Child("worker.media.decoder_child"), _MOST_IDLE)

    def prewarm(self) -> None:
        """Starts a child without waiting for it, so that the first job finds SimpleITK loaded."""
        self._children.prewarm()

    def decode(
        self,
        path: Path,
        limits: VolumeLimits,
        scratch: Path,
        series_uid: str | None,
        check: Callable[[], None],
        *,
        admit: Admit = lambda what, memory, files: None,
    ) -> Decoded:
        """As worker.media.decode.decode, in a child. `admit` is called here, while the child waits.

        Raises its errors; InputError (decoder-crashed, decoder-timeout) when the child died or took too long;
        DependencyError when it was killed by somebody else (decoder-killed) or had no disk (worker-disk); and
        whatever `admit` raises, and `check`, which is called every few hundredths of a second; both end the child.
        """
        request = {
            "path": str(path),
            "scratch": str(scratch),
            "series_uid": series_uid,
            "limits": asdict(limits),
        }
        return _decoded(self._children.ask(request, limits.max_seconds, check, admit, lambda child, answer: answer))

    def close(self) -> None:
        self._children.close()


def _decoded(answer: dict[str, Any]) -> Decoded:
    raise_fault(answer)
    fields = answer["decoded"]
    stated = fields["geometry"]
    geometry = Geometry(*(tuple(stated[name]) for name in ("size", "spacing", "origin", "direction")))
    return Decoded(Path(fields["voxels"]), fields["dtype"], geometry, fields["about"])
