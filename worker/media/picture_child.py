"""The process that decodes pictures: `python -m worker.media.picture_child N`, started by pictures.py.

Pixels go back through the open file of descriptor N, in memory, which is written anew for each picture. Where the
request has no path, it begins with the picture's own bytes.
"""

import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from worker.media.confined import caught, confine, serve
from worker.media.limits import Admit
from worker.media.picture_decode import decode_picture
from worker.media.picture_limits import PictureLimits
from worker.memory.trim import keep_freed
from worker.pictures.shrink import Shrink

#: Between pictures: what one of a few megapixels takes.
_KEPT_BYTES = 32 * 1024**2
#: Before it asks, and for pictures that are too small to ask for.
_UNASKED_BYTES = 128 * 1024**2
_SMALL_BYTES = 32 * 1024**2
_OVERHEAD_BYTES = 2 * 1024**3
#: After these nothing but a header was read, by code without a memory of its own.
_HARMLESS = frozenset({"not-a-picture", "too-many-bytes", "too-many-pixels", "extreme-aspect", "empty-input"})


def main() -> None:
    back = int(sys.argv[1])
    # Now, so that the first picture need not wait for it.
    Image.init()
    keep_freed(_KEPT_BYTES)
    serve(lambda request, ask: _answer(request, ask, back))


def _answer(request: dict[str, Any], ask: Admit, back: int) -> dict[str, Any]:
    limits = PictureLimits(**request["limits"])
    confine(
        unasked_bytes=_UNASKED_BYTES,
        address_space_bytes=_OVERHEAD_BYTES + 40 * limits.max_pixels,
        file_bytes=4 * limits.max_pixels,
        seconds=limits.max_seconds,
    )

    def admit(what: str, peak_bytes: int) -> None:
        if peak_bytes > _SMALL_BYTES:
            ask(what, peak_bytes, 0)

    def work() -> dict[str, Any]:
        given = Path(request["path"]) if "path" in request else _read(back, request["content"])
        shrink = Shrink(**request["shrink"]) if request.get("shrink") else None
        decoded = decode_picture(given, limits, request["alpha"], admit, shrink=shrink)
        _write(back, decoded.pixels.data.cast("B"))
        width, height = decoded.size
        shape = decoded.pixels.shape
        return {"decoded": {"width": width, "height": height, "shape": shape, "about": decoded.about}}

    told = caught(work, "the picture does not fit into the memory set aside for decoding")
    return told | {"reusable": "decoded" in told or told.get("fault", {}).get("code") in _HARMLESS}


def _read(file: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = os.pread(file, size - len(content), len(content))
        if not piece:
            raise EOFError("the picture's bytes are not all there")
        content += piece
    return content


def _write(file: int, pixels: memoryview) -> None:
    at = 0
    while at < len(pixels):
        at += os.pwrite(file, pixels[at:], at)


if __name__ == "__main__":
    main()
