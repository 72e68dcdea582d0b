"""The process that reads one huge picture: `python -m worker.media.band_child N`, started by spilled.py.

Its pixels go to the open file of descriptor N, on disk.
"""

import sys
from pathlib import Path
from typing import Any

from worker.media.band_decode import spill
from worker.media.confined import caught, confine, serve, wanted
from worker.media.limits import Admit
from worker.media.picture_limits import PictureLimits

#: Before it asks, while it reads a header.
_UNASKED_BYTES = 128 * 1024**2
_ADDRESS_SPACE_BYTES = 8 * 1024**3


def main() -> None:
    into = int(sys.argv[1])
    serve(lambda request, ask: _answer(request, ask, into))


def _answer(request: dict[str, Any], ask: Admit, into: int) -> dict[str, Any]:
    limits = PictureLimits(**request["limits"])
    confine(
        unasked_bytes=_UNASKED_BYTES,
        address_space_bytes=_ADDRESS_SPACE_BYTES,
        file_bytes=3 * limits.max_pixels,
        seconds=limits.max_seconds,
    )
    return caught(
        lambda: {"spilled": spill(Path(request["path"]), limits, request["alpha"], ask, into, wanted=wanted)},
        "the picture does not fit into the memory set aside for a band of it",
    )


if __name__ == "__main__":
    main()
