"""Damages sound files on purpose. Seed, kind and number name a damaged file for good: any finding can be had again.

    mutant(sound_files(folder), "nii-gz", seed=1, number=4711) -> Mutant(number, kind, ways, data)

Blind changes of bytes are here; those that know a format are in mutation_headers.py and mutation_containers.py.
"""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from tests.support.mutation_containers import DICOM_CHANGES, PNG_CHANGES, ZIP_CHANGES, rezipped, zip_members
from tests.support.mutation_headers import META_CHANGES, NIFTI_CHANGES, NRRD_CHANGES, Change
from tests.support.sound_files import ZIPPED

#: A damaged file is at most so much larger than the sound one: the limits of readers are tested with less.
_LONGEST_BYTES = 200_000


#: Of the changes of a zip, how many damage its own structure; the others damage a member, and the rest is sound again.
_OF_THE_ARCHIVE = 0.15


@dataclass(frozen=True)
class Mutant:
    """`ways` names what was done, in order."""

    number: int
    kind: str
    ways: tuple[str, ...]
    data: bytes

    def __str__(self) -> str:
        return f"{self.kind} {self.number}: {', '.join(self.ways)}"


@dataclass(frozen=True)
class _Way:
    name: str
    change: Change


def mutant(sound: Mapping[str, bytes], kind: str, *, seed: int, number: int) -> Mutant:
    """How, where and how often the file is damaged is drawn."""
    rng = Random(f"{seed}/{kind}/{number}")
    data, names = sound[kind], []
    # One fault is found by the check that is meant for it; several get past that check to what lies behind.
    for _ in range(rng.choices((1, 2, 3, 5), (60, 20, 15, 5))[0]):
        way = _drawn(kind, sound, rng)
        data = way.change(data, rng)[:_LONGEST_BYTES]
        names.append(way.name)
    return Mutant(number, kind, tuple(names), data)


def _drawn(kind: str, sound: Mapping[str, bytes], rng: Random) -> _Way:
    if rng.random() < 0.08:
        return _splice(*rng.choice(sorted(sound.items())))
    if kind in ZIPPED and rng.random() < _OF_THE_ARCHIVE:
        return _way(rng.choice((*ZIP_CHANGES * 2, *BYTE_CHANGES)))
    way = _way(rng.choice((*_TARGETED[kind] * 2, *BYTE_CHANGES)))
    if kind in ZIPPED:
        return _within_zip(way)
    return _within_gzip(way) if kind == "nii-gz" and rng.random() < 0.6 else way


def _way(change: Change) -> _Way:
    return _Way(change.__name__.replace("_", " "), change)


def flipped_bits(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if data else 0):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwritten_run(data: bytes, rng: Random) -> bytes:
    start, run = _place(data, rng), rng.choice((1, 2, 4, 8, 64))
    filling = rng.choice((b"\0", b"\xff", b"\x80", b"\x7f", b" ", b""))
    patch = filling * run or rng.randbytes(run)
    return data[:start] + patch + data[start + run :]


def inserted_run(data: bytes, rng: Random) -> bytes:
    start = _place(data, rng)
    return data[:start] + rng.randbytes(rng.choice((1, 2, 4, 100, 5000))) + data[start:]


def dropped_run(data: bytes, rng: Random) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + rng.choice((1, 2, 4, 16, 200)) :]


def doubled_run(data: bytes, rng: Random) -> bytes:
    start = _place(data, rng)
    end = min(len(data), start + rng.choice((4, 16, 200, 2000)))
    return data[:end] + data[start:end] * rng.choice((1, 1, 3, 50)) + data[end:]


def swapped_runs(data: bytes, rng: Random) -> bytes:
    run = rng.choice((1, 2, 4, 32))
    first, second = sorted((_place(data, rng), _place(data, rng)))
    if second < first + run:
        return data
    a, b = data[first : first + run], data[second : second + run]
    return data[:first] + b + data[first + run : second] + a + data[second + run :]


def truncated(data: bytes, rng: Random) -> bytes:
    """Near the end as after a broken upload, or anywhere; now and then there is nothing left."""
    return data[: rng.choice((len(data) - rng.randint(1, 40), rng.randint(0, len(data))))]


def lengthened(data: bytes, rng: Random) -> bytes:
    return data + rng.choice((b"\0", data[:64], b"\xff")) * rng.choice((1, 7, 512))


BYTE_CHANGES: tuple[Change, ...] = (
    flipped_bits,
    overwritten_run,
    inserted_run,
    dropped_run,
    doubled_run,
    swapped_runs,
    truncated,
    lengthened,
)


def _place(data: bytes, rng: Random) -> int:
    """Anywhere, but more often where the headers are."""
    end = max(1, len(data))
    return rng.randrange(min(end, 400)) if rng.random() < 0.6 else rng.randrange(end)


def _splice(name: str, other: bytes) -> _Way:
    """The beginning of one file and the end of another, or one within the other."""

    def change(data: bytes, rng: Random) -> bytes:
        here, there = _place(data, rng), _place(other, rng)
        if rng.random() < 0.5:
            return data[:here] + other[there:]
        return data[:here] + other[there : there + rng.choice((16, 352, 4000))] + data[here:]

    return _Way(f"spliced with {name}", change)


def _within_gzip(way: _Way) -> _Way:
    """The same change of what is packed, with sums that are right again."""

    def change(data: bytes, rng: Random) -> bytes:
        try:
            inner = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return flipped_bits(data, rng)
        return gzip.compress(way.change(inner, rng), mtime=0)

    return _Way(f"{way.name} within", change)


def _within_zip(way: _Way) -> _Way:
    """The same change of one member, in an archive that is sound again."""

    def change(data: bytes, rng: Random) -> bytes:
        members = zip_members(data)
        if not members:
            return flipped_bits(data, rng)
        number = rng.randrange(len(members))
        name, content = members[number]
        members[number] = (name, way.change(content, rng))
        return rezipped(members, packed=rng.random() < 0.3)

    return _Way(f"{way.name} of a member", change)


_TARGETED: dict[str, tuple[Change, ...]] = {
    "nii": NIFTI_CHANGES,
    "nii-scaled": NIFTI_CHANGES,
    "nii-gz": NIFTI_CHANGES,
    "nrrd": NRRD_CHANGES,
    "nrrd-gzip": NRRD_CHANGES,
    "mha": META_CHANGES,
    "mha-zlib": META_CHANGES,
    "png": PNG_CHANGES,
    "zip-mhd": META_CHANGES,
    **{kind: DICOM_CHANGES for kind in ZIPPED if kind.startswith("dicom")},
}
