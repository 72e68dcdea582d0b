"""Changes that know where the fields of NIfTI, NRRD and MetaImage headers are. Called by mutation.py."""

import re
import struct
from collections.abc import Callable
from random import Random

Change = Callable[[bytes, Random], bytes]

_NUMBERS = (
    *(b"0", b"-1", b"1", b"2", b"3", b"65535", b"65536", b"2147483647", b"2147483648", b"4294967296"),
    *(b"-9223372036854775808", b"18446744073709551616", b"9" * 400, b"1e308", b"1e-320", b"1e999", b"nan", b"-inf"),
    *(b"0x10", b"1_000", b"+5", b"1.5", b".", b"", b"1,2", b"\xd9\xa3", b"1\0"),
)
#: Offset and kind of every field of a NIfTI-1 header that a reader looks at.
_NIFTI_FIELDS = (
    *((0, "i"), (38, "b"), (39, "b"), (68, "h"), (70, "h"), (72, "h"), (74, "h"), (122, "b"), (123, "b")),
    *((40 + 2 * n, "h") for n in range(8)),
    *((76 + 4 * n, "f") for n in range(8)),
    *((108, "f"), (112, "f"), (116, "f"), (252, "h"), (254, "h")),
    *((256 + 4 * n, "f") for n in range(18)),
    *((344, "i"), (348, "i")),
)
_INTERESTING = {
    "b": (0, 1, 2, 3, 7, 8, -1, 127, -128),
    "h": (0, 1, 2, 3, 4, 7, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 2304, -1, 32767, -32768),
    "i": (0, 1, 348, 540, 1543569408, -1, 2**31 - 1, -(2**31)),
    "f": (
        *(0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 352.0, 353.0, 348.0, 1e-7, 1e-30, 1e-45, 1e4, 1e7, 1e30, 3.4e38),
        *(float("nan"), float("inf"), float("-inf"), 2.0**31, 2.0**63),
    ),
}


def one_nifti_field(data: bytes, rng: Random) -> bytes:
    offset, kind = rng.choice(_NIFTI_FIELDS)
    return _packed(data, offset, kind, rng)


def several_nifti_fields(data: bytes, rng: Random) -> bytes:
    for _ in range(rng.randint(2, 6)):
        data = one_nifti_field(data, rng)
    return data


def nifti_sizes(data: bytes, rng: Random) -> bytes:
    """Dimensions that fit the file's length, or nearly, in another shape."""
    voxels = max(1, (len(data) - 352) // 2)
    x = rng.choice((1, 2, 3, 5, 7, 11, rng.randint(1, voxels)))
    y = max(1, rng.choice((1, 2, 3, voxels // max(x, 1) // 2)))
    z = max(1, voxels // max(1, x * y) + rng.choice((-1, 0, 0, 0, 1)))
    dims = (rng.choice((3, 3, 3, 2, 4, 7)), x, y, z, 1, 1, 1, 1)
    return _patched(data, 40, struct.pack(_order(data) + "8H", *(min(n, 65535) for n in dims)))


def nifti_extension(data: bytes, rng: Random) -> bytes:
    """A header extension, with or without a `vox_offset` that leaves room for it."""
    order = _order(data)
    claimed = rng.choice((16, 32, 0, -16, 2**31 - 1))
    extension = struct.pack(order + "ii", claimed, rng.choice((0, 2, 4, -1))) + rng.randbytes(8)
    data = _patched(data, 348, b"\x01\0\0\0")
    data = data[:352] + extension + data[352:]
    return _patched(data, 108, struct.pack(order + "f", 368.0)) if rng.random() < 0.7 else data


def _order(data: bytes) -> str:
    return ">" if data[:4] == (348).to_bytes(4, "big") else "<"


def _packed(data: bytes, offset: int, kind: str, rng: Random) -> bytes:
    order = _order(data)
    if rng.random() < 0.3:
        return _patched(data, offset, rng.randbytes(struct.calcsize(kind)))
    if rng.random() < 0.05:
        order = "<" if order == ">" else ">"
    return _patched(data, offset, struct.pack(order + kind, rng.choice(_INTERESTING[kind])))


def _patched(data: bytes, offset: int, patch: bytes) -> bytes:
    if len(data) < offset:
        return data
    return data[:offset] + patch + data[offset + len(patch) :]


NIFTI_CHANGES: tuple[Change, ...] = (
    one_nifti_field,
    one_nifti_field,
    several_nifti_fields,
    nifti_sizes,
    nifti_extension,
)


def _line_changes(end: re.Pattern[bytes], lines_of_others: tuple[bytes, ...]) -> tuple[Change, ...]:
    """Changes of a header made of lines; `end` matches where the voxels begin."""

    def split(data: bytes) -> tuple[list[bytes], bytes]:
        found = end.search(data)
        at = found.end() if found else min(len(data), 400)
        return data[:at].splitlines(keepends=True) or [b""], data[at:]

    def one_number(data: bytes, rng: Random) -> bytes:
        lines, rest = split(data)
        header = b"".join(lines)
        spots = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", header))
        if not spots:
            return data
        spot = rng.choice(spots)
        return header[: spot.start()] + rng.choice(_NUMBERS) + header[spot.end() :] + rest

    def one_value(data: bytes, rng: Random) -> bytes:
        lines, rest = split(data)
        number = rng.randrange(len(lines))
        name, mark, _ = lines[number].partition(b":" if b":" in lines[number] else b"=")
        value = rng.choice((*_NUMBERS, b"LOCAL", b"LIST", b"raw", b"True", b"none", b"(1,0,0)", b"a" * 70_000))
        lines[number] = name + mark + b" " + value + b"\n"
        return b"".join(lines) + rest

    def one_line(data: bytes, rng: Random) -> bytes:
        lines, rest = split(data)
        number = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                del lines[number]
            case 1:
                lines.insert(number, lines[number])
            case 2:
                lines.insert(number, rng.choice(lines_of_others) + b"\n")
            case 3:
                lines[number] = rng.choice(lines_of_others) + b"\n"
            case _:
                rng.shuffle(lines)
        return b"".join(lines) + rest

    def other_line_ends(data: bytes, rng: Random) -> bytes:
        lines, rest = split(data)
        mark = rng.choice((b"\r\n", b"\r", b"\n\n", b"\0", b"\x85", b"\x1c", b""))
        return b"".join(line.rstrip(b"\r\n") + mark for line in lines) + rest

    return (one_number, one_number, one_value, one_line, other_line_ends)


NRRD_CHANGES = _line_changes(
    re.compile(rb"\r?\n\r?\n"),
    (
        *(b"data file: /etc/passwd", b"data file: LIST", b"line skip: 7", b"byte skip: -1", b"encoding: gzip"),
        *(b"encoding: raw", b"encoding: hex", b"type: block", b"block size: 9", b"type: double", b"endian: big"),
        *(b"dimension: 16", b"space: scanner-xyz", b'space units: "m" "m" "m"', b"kinds: vector domain domain"),
        *(b"space directions: none none none", b"space origin: (nan,0,0)", b"key:=value", b"# comment", b"sizes:"),
        *(b"measurement frame: (1,0,0) (0,1,0) (0,0,1)", b"min: 1e999", b"content: " + b"c" * 5000),
    ),
)
META_CHANGES = _line_changes(
    re.compile(rb"ElementDataFile[^\n]*\n"),
    (
        *(b"ElementDataFile = /etc/passwd", b"ElementDataFile = LIST", b"ElementDataFile = a%d.raw 1 9 1"),
        *(b"HeaderSize = -1", b"CompressedData = True", b"CompressedDataSize = 1", b"BinaryData = False"),
        *(b"ElementNumberOfChannels = 3", b"ElementType = MET_STRING", b"ElementType = MET_DOUBLE", b"NDims = 10"),
        *(b"BinaryDataByteOrderMSB = True", b"ElementToIntensityFunctionSlope = 0", b"Modality = MET_MOD_CT"),
        *(b"DimSize = 0 0 0", b"ElementSpacing = 0 0 0", b"TransformMatrix = nan 0 0 0 1 0 0 0 1", b"Comment = %n%s"),
        *(b"AnatomicalOrientation = RAI", b"ObjectType = Mesh", b"ObjectSubType = HasVelocity"),
    ),
)
