"""Pictures as bytes, sound and hostile, made where they are needed."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from worker.contract import Array

#: EXIF with nothing but an orientation; see `with_orientation`.
_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0%b\0\0\0\0\0\0\0"


def noise(width: int = 61, height: int = 43, channels: int = 3, seed: int = 7) -> Array:
    """uint8 [height, width, channels], smooth enough for JPEG, different in each corner."""
    across = np.linspace(0, 200, width)[None, :, None]
    down = np.linspace(0, 55, height)[:, None, None]
    tint = np.random.default_rng(seed).uniform(0.3, 1, channels)
    return ((across + down) * tint).astype(np.uint8)


def encoded(picture: Array | Image.Image, kind: str, **options: Any) -> bytes:
    """A file of Pillow's format `kind`."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def with_orientation(picture: Array, orientation: int) -> bytes:
    """A JPEG that tells so."""
    return encoded(picture, "JPEG", quality=95, subsampling=0, exif=_EXIF % struct.pack("<H", orientation))


def png_bomb(width: int, height: int) -> bytes:
    """A one-bit PNG of zeros: some hundred kilobytes at most, whatever its size."""
    rows = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    packed = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def webp_bomb(width: int, height: int) -> bytes:
    """The header of an extended WebP file of that size, and nothing behind it."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body
