"""The voxels of a file, unpacked and checked byte by byte: all there, sums right, numbers finite.

SimpleITK reads a truncated or bit-flipped .nii or .nii.gz without a word (missing voxels become 0) and turns NaN
and infinities into 0, so none of that may be left to it.
"""

import bz2
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip, igzip_lib

from fleet.errors import CorruptInput, InputTooLarge, UnsupportedMedia
from worker.media import nifti
from worker.media.header import Header
from worker.media.sniff import HEAD_BYTES, Format, not_a_volume, sniff

CHUNK_BYTES = 4 * 1024**2
#: What may follow the voxels: some writers pad.
SLACK_BYTES = 1024**2
#: isal's own error is neither zlib's nor an OSError, and its stub calls the class an instance.
_ISAL_ERROR: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]
_BROKEN = (EOFError, OSError, zlib.error, _ISAL_ERROR)


def gunzip(path: Path, offset: int = 0) -> Iterator[bytes]:
    """The inflated content in chunks, CRC and length checked. Raises CorruptInput (truncated-gzip, corrupt-gzip)."""
    with path.open("rb") as file:
        file.seek(offset)
        try:
            with igzip.IGzipFile(fileobj=file, mode="rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
        except EOFError as error:
            raise CorruptInput(
                "the gzip stream ends too early: the file was cut off, for instance by an unfinished upload",
                code="truncated-gzip",
            ) from error
        except _BROKEN as error:
            raise CorruptInput(
                "the gzip stream is damaged: its checksum or structure is wrong", code="corrupt-gzip"
            ) from error


def unpack(path: Path, header: Header, target: Path) -> None:
    """Writes the rewritten header and the raw voxels to `target`.

    Raises CorruptInput when they are too few, damaged or not finite, InputTooLarge when far too many come out.
    """
    with target.open("wb") as out:
        out.write(header.rewritten or b"")
        left, beyond = header.stored_bytes, 0
        finite = FiniteCheck(header.dtype)
        for chunk in _voxels(path, header):
            voxels = chunk[:left]
            finite.feed(voxels)
            out.write(voxels)
            left -= len(voxels)
            beyond += len(chunk) - len(voxels)
            if beyond > SLACK_BYTES:
                raise bomb(header.stored_bytes)
        if left:
            raise truncated(header.stored_bytes - left, header.stored_bytes)


def gunzip_nifti(path: Path, target: Path, accept: Callable[[Header], None]) -> Header:
    """Inflates a .nii.gz to `target`, no further than its own header says, once `accept` has let that pass.

    Raises as `unpack` and nifti.read_header do, and UnsupportedMedia when something else is inside.
    """
    chunks = gunzip(path)
    first = next(chunks, b"")
    inside = sniff(first[:HEAD_BYTES])
    if inside in (Format.GZIP, Format.ZIP, Format.ARCHIVE):
        raise UnsupportedMedia("the gzip file holds another archive", code="nested-archive")
    if inside is not Format.NIFTI:
        raise not_a_volume(inside, "the gzip file holds something that")
    header = nifti.read_header(first)
    accept(header)
    end = header.offset + header.stored_bytes
    written = 0
    with target.open("wb") as out:
        for chunk in chain([first], chunks):
            written += out.write(chunk)
            if written > end + SLACK_BYTES:
                raise bomb(end)
    check_raw(target, header)
    return header


def check_raw(path: Path, header: Header) -> None:
    """The same checks for voxels that lie raw in `path`. Raises CorruptInput."""
    present = path.stat().st_size - header.offset
    if present < header.stored_bytes:
        raise truncated(max(present, 0), header.stored_bytes)
    if header.dtype.kind != "f":
        return
    finite = FiniteCheck(header.dtype)
    left = header.stored_bytes
    for chunk in _raw(path, header.offset):
        finite.feed(chunk[:left])
        left -= min(left, len(chunk))


def truncated(present: int, wanted: int) -> CorruptInput:
    return CorruptInput(
        f"the file holds {present:,} of the {wanted:,} bytes of voxels that its header promises: it was cut off",
        code="truncated-volume",
        present=present,
        wanted=wanted,
    )


def bomb(limit: int) -> InputTooLarge:
    return InputTooLarge(
        f"the file unpacks to more than the {limit:,} bytes that its header states",
        code="decompression-bomb",
        limit=limit,
    )


class FiniteCheck:
    """Raises CorruptInput on NaN or infinity in a stream of voxels; chunks may end inside a number."""

    def __init__(self, dtype: np.dtype[np.generic]) -> None:
        self._dtype = dtype
        self._rest = b""

    def feed(self, data: bytes) -> None:
        if self._dtype.kind != "f":
            return
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._dtype.itemsize
        self._rest = data[whole:]
        require_finite(np.frombuffer(data, self._dtype, count=whole // self._dtype.itemsize))


def require_finite(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CorruptInput(
            "the volume has voxels that are NaN or infinite; give them a number (background is usual) first",
            code="non-finite-voxels",
        )


def _voxels(path: Path, header: Header) -> Iterator[bytes]:
    if header.encoding == "gzip":
        yield from gunzip(path, header.offset)
    elif header.encoding == "raw":
        yield from _bounded(_raw(path, header.offset), header.stored_bytes)
    else:
        with path.open("rb") as file:
            file.seek(header.offset)
            try:
                yield from _inflate(file) if header.encoding == "zlib" else _bunzip(file)
            except _BROKEN as error:
                raise CorruptInput(
                    f"the {header.encoding} stream is cut off or damaged", code="corrupt-stream"
                ) from error


def _raw(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _bounded(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """What follows raw voxels costs nothing and is not looked at."""
    for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    stream = zlib.decompressobj(47)
    while not stream.eof:
        data = stream.unconsumed_tail or file.read(CHUNK_BYTES)
        if not data:
            raise EOFError
        if chunk := stream.decompress(data, CHUNK_BYTES):
            yield chunk


def _bunzip(file: BinaryIO) -> Iterator[bytes]:
    with bz2.BZ2File(file) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
