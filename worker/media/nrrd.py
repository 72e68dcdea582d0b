"""NRRD headers with the voxels attached. Detached data would let a header name any file, and is refused.

https://teem.sourceforge.net/nrrd/format.html
"""

import re

import numpy as np

from fleet.errors import CorruptInput, GeometryError, UnsupportedMedia
from worker.contract import Array
from worker.media.header import Encoding, Header, check_size, geometry_from

#: A header longer than this is no header.
MAX_HEADER_BYTES = 1024 * 1024
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_NUMPY = {name: code for code, names in _TYPES.items() for name in names}
_ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
#: To LPS, as signs of x, y, z.
_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_VECTOR = re.compile(r"\(([^()]*)\)|none")


def read_header(head: bytes) -> Header:
    """From the file's beginning. Raises CorruptInput, UnsupportedMedia or GeometryError."""
    text, offset = _split(head)
    fields = _fields(text)
    for name in ("data file", "datafile"):
        if name in fields:
            raise UnsupportedMedia(
                "the NRRD header names another file for its voxels; attach them (.nrrd instead of .nhdr)",
                code="detached-data",
            )
    for name in ("line skip", "lineskip", "byte skip", "byteskip"):
        if fields.get(name, "0") != "0":
            raise UnsupportedMedia(f"`{name}` is not supported in NRRD headers", code="unsupported-encoding")
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise UnsupportedMedia("the NRRD encoding must be raw, gzip or bzip2", code="unsupported-encoding")
    size, dtype = _size(fields), _dtype(fields)
    columns, origin = _placed(fields)
    geometry = geometry_from(size, columns, origin)
    return Header(size, dtype, (geometry,), offset, encoding, rewritten=_rewritten(size, dtype, columns, origin))


def _rewritten(size: tuple[int, int, int], dtype: np.dtype[np.generic], columns: Array, origin: Array) -> bytes:
    """In LPS, with the numbers to the last digit."""
    *vectors, start = (f"({','.join(repr(float(value)) for value in point)})" for point in (*columns.T, origin))
    lines = (
        "NRRD0004",
        f"type: {_TYPES[dtype.str[1:]][0]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, size))}",
        f"space directions: {' '.join(vectors)}",
        "kinds: domain domain domain",
        f"endian: {'big' if dtype.str[0] == '>' else 'little'}",
        "encoding: raw",
        f"space origin: {start}",
    )
    return ("\n".join(lines) + "\n\n").encode()


def _split(head: bytes) -> tuple[str, int]:
    """The header's text, and where the voxels begin: after the first empty line."""
    end = re.search(rb"\r?\n\r?\n", head)
    if end is None:
        raise CorruptInput("the NRRD header does not end in an empty line", code="truncated-volume")
    return head[: end.start()].decode("latin-1"), end.end()


def _fields(text: str) -> dict[str, str]:
    """`field: value` lines by lower-cased name; comments and `key:=value` pairs are not fields."""
    fields: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        name, separator, value = line.partition(":")
        if line.startswith("#") or not separator or value.startswith("="):
            continue
        if (key := name.strip().lower()) in fields:
            raise CorruptInput("the NRRD header gives a field twice", code="invalid-header")
        fields[key] = value.strip()
    return fields


def _size(fields: dict[str, str]) -> tuple[int, int, int]:
    try:
        sizes = tuple(int(n) for n in fields["sizes"].split())
        dimension = int(fields["dimension"])
    except (KeyError, ValueError) as error:
        raise CorruptInput("the NRRD header gives no whole `sizes` and `dimension`", code="invalid-header") from error
    if len(sizes) != dimension or min(sizes, default=0) < 1:
        raise CorruptInput("the NRRD header's `sizes` and `dimension` contradict each other", code="invalid-header")
    kinds = fields.get("kinds", "").lower().split()
    if any("vector" in kind or "color" in kind or "complex" in kind for kind in kinds):
        raise UnsupportedMedia("the voxels are vectors or colours; a volume has one number each", code="not-scalar")
    return check_size(sizes)


def _dtype(fields: dict[str, str]) -> np.dtype[np.generic]:
    code = _NUMPY.get(fields.get("type", "").lower())
    if code is None:
        raise UnsupportedMedia("the NRRD type is not a plain number", code="not-scalar")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if order is None and code[1] != "1":
        raise CorruptInput("the NRRD header gives no `endian`", code="invalid-header")
    return np.dtype((order or "<") + code)


def _placed(fields: dict[str, str]) -> tuple[Array, Array]:
    """The axis steps, one per column, and the first voxel's centre, in LPS mm."""
    signs = _SPACES.get(fields.get("space", "").lower())
    if signs is None:
        raise GeometryError(
            "the NRRD header's `space` must be left-posterior-superior, right-anterior-superior or "
            "left-anterior-superior: without it left and right, front and back are unknown",
            code="no-orientation",
        )
    units = fields.get("space units", "").replace('"', "").split()
    if any(unit not in ("mm", "millimeter", "millimeters") for unit in units):
        raise GeometryError("the NRRD `space units` must be mm", code="unsupported-units")
    try:
        steps = [_vector(match) for match in _VECTOR.finditer(fields["space directions"])]
        origin = _vector(next(_VECTOR.finditer(fields["space origin"])))
        columns = np.array(steps).T
        if columns.shape != (3, 3) or len(origin) != 3:
            raise ValueError("not three vectors of three numbers")
    except (KeyError, ValueError, StopIteration) as error:
        raise GeometryError(
            "the NRRD header's `space directions` and `space origin` are not vectors of three numbers",
            code="invalid-direction",
        ) from error
    return columns * np.reshape(signs, (3, 1)), np.array(origin) * signs


def _vector(match: re.Match[str]) -> list[float]:
    return [float(number) for number in (match.group(1) or "").split(",")]
