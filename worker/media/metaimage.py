"""MetaImage headers: .mha with its voxels, or .mhd whose voxels lie beside it in the same zip.

A header may name any file, a list of files or a pattern; only the file's own rest or a plain neighbour is taken.
https://itk.org/Wiki/MetaIO/Documentation
"""

import re
from dataclasses import dataclass

import numpy as np

from fleet.errors import CorruptInput, GeometryError, UnsupportedMedia
from worker.contract import Geometry
from worker.media.header import Encoding, Header, check_size, check_spacing, geometry_from

MAX_HEADER_BYTES = 64 * 1024
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_DATA_FILE = re.compile(rb"(?:\A|\n)[ \t]*ElementDataFile[ \t]*=([^\r\n]*)\r?(?:\n|\Z)")


@dataclass(frozen=True)
class MetaImage:
    """A header, and the neighbouring file that holds its voxels (None: they follow it)."""

    header: Header
    data_file: str | None


def read_header(head: bytes) -> MetaImage:
    """From the file's beginning. Raises CorruptInput, UnsupportedMedia or GeometryError."""
    last = _DATA_FILE.search(head[:MAX_HEADER_BYTES])
    if last is None:
        raise CorruptInput("the MetaImage header does not end in ElementDataFile", code="truncated-volume")
    fields = _fields(head[: last.start()].decode("latin-1"))
    data_file = _data_file(last.group(1).decode("latin-1").strip())
    if fields.get("HeaderSize", "0") != "0":
        raise UnsupportedMedia("`HeaderSize` is not supported in MetaImage headers", code="unsupported-encoding")
    if not _flag(fields, "BinaryData", default="True"):
        raise UnsupportedMedia("the MetaImage voxels are text; write them as binary", code="unsupported-encoding")
    for name, neutral in (("ElementToIntensityFunctionSlope", "1"), ("ElementToIntensityFunctionOffset", "0")):
        if fields.get(name, neutral) != neutral:
            raise UnsupportedMedia(
                f"`{name}` asks for rescaled voxels, which most readers ignore: write the rescaled values",
                code="unsupported-encoding",
            )
    encoding: Encoding = "zlib" if _flag(fields, "CompressedData") else "raw"
    size, dtype = _size(fields), _dtype(fields)
    geometry = _geometry(fields, size)
    offset = last.end() if data_file is None else 0
    header = Header(size, dtype, (geometry,), offset, encoding, rewritten=_rewritten(dtype, geometry))
    return MetaImage(header, data_file)


def _rewritten(dtype: np.dtype[np.generic], geometry: Geometry) -> bytes:
    axes = np.asarray(geometry.direction).reshape(3, 3).T.ravel()
    name = next(name for name, code in _TYPES.items() if code == dtype.str[1:])
    lines = (
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        f"BinaryDataByteOrderMSB = {dtype.str[0] == '>'}",
        "CompressedData = False",
        f"TransformMatrix = {' '.join(repr(float(value)) for value in axes)}",
        f"Offset = {' '.join(map(repr, geometry.origin))}",
        f"ElementSpacing = {' '.join(map(repr, geometry.spacing))}",
        f"DimSize = {' '.join(map(str, geometry.size))}",
        f"ElementType = {name}",
        "ElementDataFile = LOCAL",
    )
    return ("\n".join(lines) + "\n").encode()


def _data_file(name: str) -> str | None:
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST") or "%" in name or not name:
        raise UnsupportedMedia(
            "ElementDataFile names a list or a pattern of files; write the voxels into one file", code="detached-data"
        )
    if re.search(r"[/\\\0:]", name) or name.startswith("."):
        raise UnsupportedMedia(
            "ElementDataFile points outside the archive; it must be the plain name of the file beside the header",
            code="detached-data",
        )
    return name


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            if name.strip() in fields:
                raise CorruptInput("the MetaImage header gives a field twice", code="invalid-header")
            fields[name.strip()] = value.strip()
    return fields


def _flag(fields: dict[str, str], name: str, default: str = "False") -> bool:
    return fields.get(name, default)[:1].upper() in ("T", "Y", "1")


def _numbers(fields: dict[str, str], names: tuple[str, ...], count: int) -> list[float] | None:
    """The first of several spellings of a field, as so many numbers; None when none is there."""
    for name in names:
        if name in fields:
            try:
                numbers = [float(part) for part in fields[name].split()]
            except ValueError:
                numbers = []
            if len(numbers) != count:
                raise CorruptInput(f"`{name}` in the MetaImage header is not {count} numbers", code="invalid-header")
            return numbers
    return None


def _size(fields: dict[str, str]) -> tuple[int, int, int]:
    try:
        size = tuple(int(n) for n in fields["DimSize"].split())
        dimensions = int(fields["NDims"])
        channels = int(fields.get("ElementNumberOfChannels", "1"))
    except (KeyError, ValueError) as error:
        raise CorruptInput("the MetaImage header gives no whole DimSize and NDims", code="invalid-header") from error
    if len(size) != dimensions or min(size, default=0) < 1:
        raise CorruptInput("DimSize and NDims of the MetaImage header contradict each other", code="invalid-header")
    if channels != 1:
        raise UnsupportedMedia(f"the voxels have {channels} channels; a volume has one number each", code="not-scalar")
    return check_size(size)


def _dtype(fields: dict[str, str]) -> np.dtype[np.generic]:
    code = _TYPES.get(fields.get("ElementType", ""))
    if code is None:
        raise UnsupportedMedia("the MetaImage ElementType is not a plain number", code="not-scalar")
    big = any(_flag(fields, name) for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    return np.dtype((">" if big else "<") + code)


def _geometry(fields: dict[str, str], size: tuple[int, int, int]) -> Geometry:
    spacing = _numbers(fields, ("ElementSpacing", "ElementSize"), 3)
    if spacing is None:
        raise GeometryError("the MetaImage header gives no ElementSpacing", code="invalid-spacing")
    check_spacing(spacing)
    # MetaImage keeps the axes one after the other: the columns of ITK's direction.
    axes = _numbers(fields, ("TransformMatrix", "Rotation", "Orientation"), 9)
    origin = _numbers(fields, ("Offset", "Position", "Origin"), 3)
    if axes is None or origin is None:
        raise GeometryError(
            "the MetaImage header gives no TransformMatrix and Offset, so left and right, front and back are unknown",
            code="no-orientation",
        )
    direction = np.array(axes).reshape(3, 3).T
    if not np.allclose(np.linalg.norm(direction, axis=0), 1, atol=1e-3):
        raise GeometryError("TransformMatrix has axes that are not of length one", code="invalid-direction")
    geometry_from(size, direction * spacing, np.array(origin))
    # As stated, to the last digit.
    a, b, c = spacing
    x, y, z = origin
    return Geometry(size, (a, b, c), (x, y, z), tuple(float(value) for value in direction.ravel()))
