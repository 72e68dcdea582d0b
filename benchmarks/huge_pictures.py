"""What a picture of 30,000 × 30,000 pixels takes: memory of the process that reads it, and of the one that looks at it.

    python benchmarks/huge_pictures.py                  (--side 10000, --kind png --kind tiff --kind jpeg, --turned)

It makes the files (jpeg: by Pillow, which takes 4 bytes a pixel for that), and looks at each in a process of its own,
in tiles of 640 with an overlap of 0.2, then whole, then draws the preview: all that detection does but the network.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_LOOK_S = 0.02
_STRIP_ROWS = 64
_MIB = 1024**2


def rows(side: int, top: int, count: int) -> np.ndarray:
    """uint8 [count, side, 3], the same wherever they are made, with edges and slopes."""
    y, x = np.arange(top, top + count)[:, None], np.arange(side)[None, :]
    return np.stack([(x // 7 + y // 5) & 255, (x * 3 ^ y) & 255, (x + y) // 40 & 255], axis=-1).astype(np.uint8)


def strips(side: int) -> Iterator[np.ndarray]:
    for top in range(0, side, _STRIP_ROWS):
        yield rows(side, top, min(_STRIP_ROWS, side - top))


def write_png(path: Path, side: int) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(1)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)))
        for strip in strips(side):
            # Filter 1: each byte less the one a pixel before.
            shifted = np.concatenate([strip[:, :1], strip[:, 1:] - strip[:, :-1]], axis=1).reshape(len(strip), -1)
            filtered = np.concatenate([np.ones((len(strip), 1), np.uint8), shifted], axis=1)
            if packed := packer.compress(filtered.tobytes()):
                file.write(chunk(b"IDAT", packed))
        file.write(chunk(b"IDAT", packer.flush()) + chunk(b"IEND", b""))


def write_tiff(path: Path, side: int) -> None:
    """Deflated strips. Source: TIFF 6.0, with Adobe's compression 8."""
    places, sizes = [], []
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 0))
        for strip in strips(side):
            places.append(file.tell())
            sizes.append(file.write(zlib.compress(strip.tobytes(), 1)))
        bits, lists = file.tell(), file.tell() + 6
        file.write(struct.pack("<3H", 8, 8, 8) + struct.pack(f"<{2 * len(places)}I", *places, *sizes))
        at, count = file.tell(), len(places)
        tags = [
            (256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, bits), (259, 3, 1, 8), (262, 3, 1, 2),
            (273, 4, count, lists), (277, 3, 1, 3), (278, 4, 1, _STRIP_ROWS), (279, 4, count, lists + 4 * count),
        ]  # fmt: skip
        file.write(struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4))
        file.seek(4)
        file.write(struct.pack("<I", at))


def write_jpeg(path: Path, side: int, *, turned: bool) -> None:
    image = Image.new("RGB", (side, side))
    for number, strip in enumerate(strips(side)):
        image.paste(Image.fromarray(strip), (0, number * _STRIP_ROWS))
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    image.save(path, "JPEG", quality=80, exif=exif)


def look(path: Path) -> dict[str, Any]:
    """In a process of its own."""
    from worker.detection.drawing import drawn
    from worker.detection.found import found
    from worker.media.picture_limits import PictureLimits
    from worker.media.spilled import Spill
    from worker.pictures.resize import linear
    from worker.pictures.tiling import Grid

    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        picture = Spill(PictureLimits().tiled(), Path(scratch)).read(path, "white", lambda *_: None, lambda: None)
        read_s = time.monotonic() - began
        tiles = list(Grid(picture.size, (640, 640), 0.2))
        total = sum(int(linear(tile.of(picture.array), (320, 320)).sum()) for tile in tiles)
        linear(picture.array, (640, 640))
        drawn(picture, found(np.zeros((0, 4)), np.zeros(0), np.zeros(0)), {})
    look_s = time.monotonic() - began - read_s
    return {"tiles": len(tiles), "sum": total, "read_s": round(read_s, 1), "look_s": round(look_s, 1)}


def watched(path: Path) -> dict[str, Any]:
    """With the most memory, in MiB, that each process had resident: what is mapped of files counts."""
    peaks = {"reader": 0, "worker": 0}
    process = subprocess.Popen([sys.executable, __file__, "--look", str(path)], stdout=subprocess.PIPE, text=True)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_S):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for who, pids in (("worker", [str(process.pid)]), ("reader", _read(children).split())):
                for pid in pids:
                    told = [line for line in _read(Path(f"/proc/{pid}/status")).splitlines() if "VmHWM" in line]
                    if told:
                        peaks[who] = max(peaks[who], int(told[0].split()[1]) // 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    told: dict[str, Any] = json.loads(output)
    return told | {f"{who}_mib": peak for who, peak in peaks.items()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def main(side: int, kinds: list[str], *, turned: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"huge.{kind}"
            if kind == "jpeg":
                write_jpeg(path, side, turned=turned)
            else:
                (write_png if kind == "png" else write_tiff)(path, side)
            size = path.stat().st_size // _MIB
            print(json.dumps({"kind": kind, "side": side, "file_mib": size} | watched(path)), flush=True)
            path.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--kind", action="append", choices=["png", "tiff", "jpeg"])
    parser.add_argument("--turned", action="store_true", help="JPEG: lying on a side")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look:
        print(json.dumps(look(arguments.look)))
    else:
        main(arguments.side, arguments.kind or ["png", "tiff", "jpeg"], turned=arguments.turned)
