"""The process that parses volumes: `python -m worker.media.decoder_child`, started by sandbox.py."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from worker.media.confined import caught, confine, serve
from worker.media.decode import decode
from worker.media.limits import Admit, VolumeLimits
from worker.media.sniff import Format, sniff

#: Before it asks: headers, a zip's list of files.
_UNASKED_BYTES = 256 * 1024**2


def main() -> None:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    serve(_answer)


def _answer(request: dict[str, Any], ask: Admit) -> dict[str, Any]:
    limits = VolumeLimits(**request["limits"])
    path = Path(request["path"])
    confine(
        unasked_bytes=_UNASKED_BYTES,
        address_space_bytes=limits.address_space_bytes,
        file_bytes=limits.max_bytes + 64 * 1024**2,
        seconds=limits.max_seconds,
    )

    def work() -> dict[str, Any]:
        decoded = decode(path, limits, Path(request["scratch"]), request["series_uid"], admit=ask)
        return {"decoded": asdict(decoded) | {"voxels": str(decoded.voxels)}}

    told = caught(work, "the volume does not fit into the memory set aside for decoding")
    return told | {"reusable": not _is_archive(path)}


def _is_archive(path: Path) -> bool:
    """Whether it may have held DICOM, whose decoder can leave voxels of one job in memory that the next reads."""
    try:
        with path.open("rb") as file:
            return sniff(file.read(4096)) is Format.ZIP
    except OSError:
        return False


if __name__ == "__main__":
    main()
