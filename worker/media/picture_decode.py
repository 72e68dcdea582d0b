"""A file of unknown content becomes the pixels of its first picture, or a typed error.

Runs in the decoding child (picture_child.py); works in any process.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from fleet.errors import CorruptInput, FleetError, InputTooLarge, UnsupportedMedia
from worker.media.jpeg_decode import plain_jpeg
from worker.media.picture_limits import PictureLimits
from worker.media.picture_pixels import Alpha, upright_rgb
from worker.media.sniff import Format, sniff
from worker.pictures.shrink import Shrink

#: No more: Pillow opens forty others, one of them with an interpreter of PostScript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_HEAD_BYTES = 4096
#: Of a pixel, while the file's own form, Pillow's RGB, an upright copy and our array are held; in WebP's decoder; and
#: while it is made smaller, first narrower and then lower.
_BYTES_PER_PIXEL = 20
#: What Pillow's readers raise for bytes that are not what they should be. An OSError is a truncated file, mostly.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
#: What people send instead, by how it begins.
_FOREIGN = (
    (b"<svg", "SVG or other XML"),
    (b"<?xml", "SVG or other XML"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"%pdf", "a PDF"),
    (b"%!ps", "PostScript"),
)
_MODERN = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif")
#: Asks for so much memory, in bytes, before it is taken; may raise. `what` begins the sentence of a refusal.
Ask = Callable[[str, int], None]


@dataclass(frozen=True)
class DecodedPicture:
    #: uint8 [height, width, 3], upright RGB.
    pixels: npt.NDArray[np.uint8]
    #: (width, height), upright, before it was made smaller.
    size: tuple[int, int]
    about: dict[str, Any] = field(default_factory=dict)


def decode_picture(
    given: Path | bytes,
    limits: PictureLimits,
    alpha: Alpha = "white",
    ask: Ask = lambda what, peak: None,
    *,
    shrink: Shrink | None = None,
) -> DecodedPicture:
    """`given` is the file, or what is in it. With `shrink` only what that leaves of it becomes an array.

    Raises an InputError with a stable code; the table is in docs/how-to/classify-pictures.md.
    """
    size = len(given) if isinstance(given, bytes) else given.stat().st_size
    limits.check_file(size)
    with io.BytesIO(given) if isinstance(given, bytes) else given.open("rb") as file:
        return _decoded(file, size, limits, alpha, ask, shrink=shrink)


def _decoded(
    file: BinaryIO, size: int, limits: PictureLimits, alpha: Alpha, ask: Ask, *, shrink: Shrink | None
) -> DecodedPicture:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head:
        raise CorruptInput("the input file is empty", code="empty-input")

    def accept(width: int, height: int) -> None:
        limits.check_size(width, height)
        ask(f"reading a picture of {width} × {height} pixels", width * height * _BYTES_PER_PIXEL + 2 * size)

    # Its decoder takes all its memory when the file is opened.
    announced = _webp_size(head)
    if announced is not None:
        accept(*announced)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = opened(file, limits)
        with image:
            mode, kind = image.mode, (image.format or "").lower()
            if image.size != announced:
                accept(*image.size)
            about = {"format": kind, "mode": mode, "orientation": 1}
            whole = shrink is None or shrink.size_of((image.height, image.width)) == (image.height, image.width)
            if whole and (plain := plain_jpeg(image, file)) is not None:
                return DecodedPicture(plain, image.size, about)
            try:
                upright, about["orientation"] = upright_rgb(image, alpha)
            except _BROKEN as error:
                raise corrupt() from error
            pixels = np.asarray(shrink.of(upright) if shrink is not None else upright)
    return DecodedPicture(pixels, upright.size, about)


def opened(file: BinaryIO, limits: PictureLimits) -> Image.Image:
    """Its header is read, and no pixel. Raises an InputError for what is no picture, or has far too many pixels."""
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    # From twice as many Pillow refuses what it opens.
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    try:
        # Not by its path: then Pillow maps some TIFFs into memory, and mixes up the rows of those that lie on a side.
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputTooLarge(
            f"the picture has more than {2 * limits.max_pixels:,} pixels; the limit is {limits.max_pixels:,} "
            f"({limits.pixels_setting}): send it smaller",
            code="too-many-pixels",
            limit=limits.max_pixels,
        ) from error
    except UnidentifiedImageError as error:
        raise _unidentified(head) from error
    except _BROKEN as error:
        raise corrupt() from error


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """(width, height) as the header of a WebP file tells them; None for what is none.

    Source: WebP Container Specification; RFC 6386, section 9.1; WebP Lossless Bitstream Specification, section 3.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    match head[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            sides = int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
            return sides if min(sides) else None
    return None


def _unidentified(head: bytes) -> FleetError:
    """Sound beginnings with a broken header are told apart from what is no picture at all."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return corrupt()
    found = _told(head)
    return UnsupportedMedia(
        f"the input is {found}: pictures are read from JPEG, PNG, WebP, BMP, TIFF and GIF files",
        code="not-a-picture",
    )


def _told(head: bytes) -> str:
    if head[4:12] in _MODERN:
        return "a HEIC or AVIF file"
    if sniff(head) is Format.ZIP:
        return "a zip"
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:32].lower()
    return next((name for start, name in _FOREIGN if begin.startswith(start)), "not a picture")


def corrupt() -> CorruptInput:
    return CorruptInput("the picture is damaged or was cut off: send it again", code="corrupt-picture")
