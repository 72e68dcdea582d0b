"""Reads inputs as pictures: files, and zips of them. Called by worker/codecs.py for tasks that accept pictures.

Each picture is decoded in a process of its own while that lasts, and no sooner than its turn comes.
"""

import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np

from fleet.cpus import usable_cpus
from fleet.errors import InputTooLarge, UnsupportedMedia, ValidationFailed
from worker.contract import Array, Picture, Source
from worker.media.archive import check_directory, files_of, is_litter, reading_zip
from worker.media.child import Child, Children, crashed, raise_fault
from worker.media.limits import Admit as AdmitDecoding
from worker.media.payload import CHUNK_BYTES
from worker.media.picture_limits import PictureLimits
from worker.media.picture_pixels import Alpha
from worker.media.placed import placed
from worker.media.sniff import HEAD_BYTES, Format, sniff
from worker.media.spilled import Spill
from worker.pictures.items import Admit, Check, Item, Pictures
from worker.pictures.shrink import Shrink

#: A file in memory that has held more is given back.
_KEPT_BYTES = 64 * 1024**2
#: For what may yet be read in bands.
_TOO_LARGE = frozenset({"too-many-pixels", "too-many-bytes"})
#: For a decoding process, while as many are at work as the cores can use.
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class _Asked:
    """What a request says of all its pictures."""

    alpha: Alpha
    tiled: bool
    #: Done by whoever decodes them.
    shrink: Shrink | None = None


class PictureReader:
    """One per worker process; thread-safe. `scratch` is a folder for temporary files, gone after each read."""

    def __init__(self, limits: PictureLimits, scratch: Path) -> None:
        self._limits = limits
        self._scratch = scratch
        # To start one costs as much as it takes to decode fifty photographs.
        self._children = Children(partial(_PictureChild, scratch), usable_cpus() + 1, _PATIENCE_S)

    def prewarm(self) -> None:
        """Starts a decoding process ahead of the first job, without waiting for it."""
        self._children.prewarm()

    def close(self) -> None:
        """Ends the idle decoding processes."""
        self._children.close()

    def pictures(self, sources: Sequence[Source], alpha: Alpha = "white", *, tiled: bool = False) -> Pictures:
        """One item for each file, and for each file of a zip; nothing is decoded yet.

        tiled: whoever looks at them does so in parts, so that one may lie on disk (worker/pictures/on_disk.py).

        Raises what is wrong with a zip as a whole (see `worker.media.archive`), and ValidationFailed `no-pictures`.
        """
        items: list[Item] = []
        asked = _Asked(alpha, tiled)
        many = len(sources) > 1 or any(source.listed for source in sources)
        for source in sources:
            if source.fault is None and _is_zip(source):
                many = True
                items += self._members(placed(source).path, asked)
            else:
                items.append(_item(source.name, partial(self._read, source), asked))
        if not items:
            raise ValidationFailed("there is no picture: the inputs hold no files", code="no-pictures")
        present = sum(source.path.stat().st_size for source in sources if source.fault is None and source.path.exists())
        return Pictures(items, many, present)

    def _members(self, path: Path, asked: "_Asked") -> list[Item]:
        with reading_zip():
            check_directory(path, self._limits)
            archive = zipfile.ZipFile(path)
            entries = files_of(archive, self._limits)
        return [
            _item(entry.filename, partial(self._read_member, archive, entry), asked)
            for entry in entries
            if not is_litter(PurePosixPath(entry.filename))
        ]

    def _read_member(
        self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, asked: "_Asked", admit: Admit, check: Check
    ) -> Picture:
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix="picture-") as file:
            _inflate(archive, entry, cast(BinaryIO, file), self._limits)
            source = Source(Path(file.name), entry.filename, "")
            if _is_zip(source):
                raise UnsupportedMedia(
                    "the entry of the zip is itself a zip: zip plain pictures", code="nested-archive"
                )
            return self._picture(source, asked, admit, check)

    def _read(self, source: Source, asked: "_Asked", admit: Admit, check: Check) -> Picture:
        if source.fault is not None:
            raise source.fault
        return self._picture(source, asked, admit, check)

    def _picture(self, source: Source, asked: "_Asked", admit: Admit, check: Check) -> Picture:
        try:
            picture = self._decoded(source, asked, admit, check)
        except InputTooLarge as error:
            if not asked.tiled or not self._limits.max_tiled_pixels or error.code not in _TOO_LARGE:
                raise
            spill = Spill(self._limits.tiled(), self._scratch)
            picture = spill.read(placed(source).path, asked.alpha, admit, check)
        return replace(picture, name=source.name)

    def _decoded(self, source: Source, asked: "_Asked", admit: Admit, check: Check) -> Picture:
        where = {"path": str(source.path)} if source.content is None else {"content": source.content}
        shrink = None if asked.shrink is None else asdict(asked.shrink)
        request = {**where, "alpha": asked.alpha, "shrink": shrink, "limits": asdict(self._limits)}
        answer, pixels = self._children.ask(
            request,
            self._limits.max_seconds,
            check,
            lambda what, memory, files: admit(what, memory),
            lambda child, answer: (answer, self._pixels(child, answer, asked.shrink)),
        )
        if pixels is None:
            raise_fault(answer)
            raise crashed()
        admit("a picture", pixels.nbytes)
        return Picture(pixels, about=answer["decoded"]["about"])

    def _pixels(self, child: "_PictureChild", answer: dict[str, Any], shrink: Shrink | None) -> Array | None:
        if "decoded" not in answer:
            return None
        told = answer["decoded"]
        width, height, shape = told.get("width"), told.get("height"), told.get("shape")
        # It may have been taken over by what it read.
        if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
            raise crashed()
        self._limits.check_size(width, height)
        height, width = (height, width) if shrink is None else shrink.size_of((height, width))
        if shape != [height, width, 3]:
            raise crashed()
        return child.pixels(width, height)


class _PictureChild(Child):
    """With a file in memory that it writes pixels to, and reads few bytes from: handing them over costs one copy."""

    def __init__(self, scratch: Path) -> None:
        self._pixels = _file_in_memory(scratch)
        super().__init__("worker.media.picture_child", [str(self._pixels)], [self._pixels])

    def kill(self) -> None:
        super().kill()
        if self._pixels >= 0:
            os.close(self._pixels)
            self._pixels = -1

    def ask(self, request: dict[str, Any], limit_s: float, check: Check, admit: AdmitDecoding) -> dict[str, Any]:
        content = request.get("content")
        if content is not None:
            view, at = memoryview(content), 0
            while at < len(view):
                at += os.pwrite(self._pixels, view[at:], at)
            request = {**request, "content": len(content)}
        return super().ask(request, limit_s, check, admit)

    def pixels(self, width: int, height: int) -> Array:
        """uint8 [height, width, 3], as last written. Raises InputError `decoder-crashed` when there are fewer."""
        pixels = np.empty((height, width, 3), np.uint8)
        view, at = pixels.data.cast("B"), 0
        while at < len(view):
            got = os.preadv(self._pixels, [view[at:]], at)
            if not got:
                raise crashed()
            at += got
        if pixels.nbytes > _KEPT_BYTES:
            os.ftruncate(self._pixels, 0)
        return pixels


def _item(name: str, read: Callable[[_Asked, Admit, Check], Picture], asked: _Asked) -> Item:
    return Item(name, partial(read, asked), lambda shrink: partial(read, replace(asked, shrink=shrink)))


def _file_in_memory(scratch: Path) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("picture")
    with tempfile.TemporaryFile(dir=scratch) as file:
        return os.dup(file.fileno())


def _is_zip(source: Source) -> bool:
    if source.content is not None:
        return sniff(source.content[:HEAD_BYTES]) is Format.ZIP
    with source.path.open("rb") as file:
        return sniff(file.read(HEAD_BYTES)) is Format.ZIP


def _inflate(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, out: BinaryIO, limits: PictureLimits) -> None:
    """Declared sizes are ignored: what comes out is counted. Raises InputTooLarge or CorruptInput."""
    size = 0
    with reading_zip(), archive.open(entry) as source:
        while chunk := source.read(CHUNK_BYTES):
            size += out.write(chunk)
            limits.check_file(size)
    out.flush()
