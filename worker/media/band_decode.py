"""A picture that is too large for memory: from its file to a file of its upright pixels, band by band.

libvips reads it from the top down; what becomes of the pixels is what `picture_decode.py` makes of them. Runs in the
decoding child (band_child.py). Why so: docs/decisions/0016-huge-pictures-lie-on-disk.md.
"""

import os
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
from PIL import Image

from fleet.errors import UnsupportedMedia
from worker.contract import Array
from worker.media.libvips import BrokenFile, Kind, Libvips, Rows
from worker.media.limits import Admit
from worker.media.picture_decode import corrupt, opened
from worker.media.picture_limits import PictureLimits
from worker.media.picture_pixels import Alpha, as_rgb, orientation_of

#: Of a band as it is read, and as it is written where rows become columns: in RGB.
_BAND_BYTES, _TURNED_BAND_BYTES = 4 * 1024**2, 32 * 1024**2
#: What libvips and its readers hold: the rows of some tiles of a TIFF, and what does not depend on the picture.
_READER_ROWS, _READER_BYTES = 1024, 128 * 1024**2
#: Of a band: as it is read, with four channels of 16 bits at most, as 8 bits, in Pillow, as RGB, and copies between.
_BYTES_PER_PIXEL = 36
#: Pillow's mode of a file -> how libvips gives its pixels, as Pillow's mode with as many letters as channels.
_FORMS = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "CMYK": "CMYK",
    "I;16": "L",
    "I;16B": "L",
}
#: Of a PNG the number of channels tells: a palette may be grey, and a colour that is transparent becomes alpha.
_FORMS_OF_PNG = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_PNG_BEGIN = 8


def spill(
    path: Path, limits: PictureLimits, alpha: Alpha, ask: Admit, into: int, *, wanted: Callable[[], None]
) -> dict[str, Any]:
    """Writes uint8 [height, width, 3], upright RGB, to the open file `into` -> {"width", "height", "about"}.

    limits: those of pictures in tiles. wanted: called at each band; ends the work by raising. Raises an InputError
    as `decode_picture` does, UnsupportedMedia `not-in-bands` or `bands-unavailable`, and OSError when the disk is full.
    """
    limits.check_file(path.stat().st_size)
    with path.open("rb") as file, opened(file, limits) as image:
        limits.check_size(*image.size)
        kind = _kind_of(image)
        orientation = _orientation(image, file)
        mode, told, (width, height) = image.mode, (image.format or "").lower(), image.size
        # Pillow gives the sides of a TIFF as they are when it is upright.
        if kind == "tiff" and orientation > 4:
            width, height = height, width
    libvips = Libvips()
    rows = max(1, _BAND_BYTES // (width * 3))
    # Where rows become columns, longer pieces of them are fewer writes.
    together = max(1, _TURNED_BAND_BYTES // _BAND_BYTES) if orientation > 4 else 1
    memory = _READER_BYTES + (_READER_ROWS * 4 + rows * (_BYTES_PER_PIXEL + 9 * together)) * width
    ask(f"reading a picture of {width} × {height} pixels in bands", memory, width * height * 3)
    os.posix_fallocate(into, 0, width * height * 3)
    stored = _bands(lambda: libvips.opened(str(path), kind), kind, mode, (width, height), rows)
    bands = (np.asarray(as_rgb(band, alpha)) for band in stored)
    top = 0
    while group := list(islice(bands, together)):
        wanted()
        band = group[0] if len(group) == 1 else np.concatenate(group)
        _write(into, band, top, height, orientation)
        top += len(band)
    upright = (height, width) if orientation > 4 else (width, height)
    return {
        "width": upright[0],
        "height": upright[1],
        "about": {"format": told, "mode": mode, "orientation": orientation},
    }


def _kind_of(image: Image.Image) -> Kind:
    """Raises UnsupportedMedia `not-in-bands` for what must be held whole to be read."""
    kind = (image.format or "").lower()
    # A JPEG with further ones behind it, as telephones write them: the first one is the picture.
    kind = "jpeg" if kind == "mpo" else kind
    why = ""
    if kind not in get_args(Kind):
        why = f"a {kind.upper()} file"
    elif kind == "jpeg" and image.info.get("progressive"):
        why = "a progressive JPEG"
    elif kind == "png" and image.info.get("interlace"):
        why = "an interlaced PNG"
    elif image.mode not in _FORMS:
        why = f"a file with pixels of the kind {image.mode}"
    if why:
        width, height = image.size
        raise UnsupportedMedia(
            f"the picture has {width} × {height} pixels, and {why} is read as a whole: pictures so large are read in "
            "bands, from baseline JPEG, PNG that is not interlaced, and TIFF of 8 or 16 bits",
            code="not-in-bands",
            width=width,
            height=height,
        )
    return kind  # type: ignore[return-value]


def _orientation(image: Image.Image, file: BinaryIO) -> int:
    """As Pillow finds it, which would read all pixels of a PNG first: the tag may come behind them."""
    if image.format != "PNG":
        return orientation_of(image)
    at = file.tell()
    if "exif" not in image.info and (exif := _late_exif(file)):
        image.info["exif"] = exif
    file.seek(at)
    return orientation_of(image, Image.Image.getexif)


def _late_exif(file: BinaryIO) -> bytes:
    """Of a PNG, wherever it lies. Source: Portable Network Graphics (Third Edition), section 5.3."""
    file.seek(_PNG_BEGIN)
    while len(header := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", header)
        if name == b"eXIf":
            return b"Exif\0\0" + file.read(min(length, 1024**2))
        file.seek(length + 4, os.SEEK_CUR)
    return b""


def _bands(
    open_rows: Callable[[], Rows], kind: Kind, mode: str, size: tuple[int, int], count: int
) -> Iterator[Image.Image]:
    """So many rows at a time from the top down, as they are stored. Raises CorruptInput `corrupt-picture`."""
    try:
        rows = open_rows()
        form = _form(kind, mode, rows.channels)
        if rows.dtype is None or len(form) > rows.channels or (rows.width, rows.height) != size:
            raise BrokenFile
        for top in range(0, rows.height, count):
            yield _image(rows.read(top, min(count, rows.height - top)), form)
    except BrokenFile as error:
        raise corrupt() from error


def _form(kind: Kind, mode: str, channels: int) -> str:
    """What the first channels are. Others are no colours: near infrared in an aerial photograph, for instance."""
    # Of 16 bits grey has no alpha in Pillow.
    if kind == "png" and mode != "I;16":
        return _FORMS_OF_PNG.get(channels, _FORMS[mode])
    return "L" if mode == "P" and channels < 3 else _FORMS[mode]


def _image(rows: Array, mode: str) -> Image.Image:
    """Of 16 bits the higher byte counts."""
    rows = rows[..., : len(mode)]
    if rows.dtype.itemsize > 1:
        rows = (rows >> 8).astype(np.uint8)
    return Image.frombytes(mode, (rows.shape[1], rows.shape[0]), rows.tobytes())


def _write(into: int, band: Array, top: int, height: int, orientation: int) -> None:
    """Puts stored rows, uint8 [rows, width, 3], of a picture with `height` of them to where they are upright."""
    count, width = band.shape[:2]
    if orientation in (2, 3, 7, 8):
        band = band[:, ::-1]
    if orientation in (3, 4, 6, 7):
        band, top = band[::-1], height - top - count
    if orientation <= 4:
        _put(into, band, top * width * 3)
        return
    for row, pixels in enumerate(band.transpose(1, 0, 2)):
        _put(into, pixels, (row * height + top) * 3)


def _put(into: int, pixels: Array, at: int) -> None:
    content = np.ascontiguousarray(pixels).data.cast("B")
    done = 0
    while done < len(content):
        done += os.pwrite(into, content[done:], at + done)
