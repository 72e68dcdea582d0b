"""Changes that know the structures of zip archives, DICOM files and PNG pictures. Called by mutation.py."""

import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from random import Random

from tests.support.mutation_headers import Change

Members = list[tuple[str, bytes]]
_LENGTHS = (0, 1, 2, 3, 0xFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

# Zip: each record's signature, and where its fields are.
_ZIP_FIELDS = {
    b"PK\x03\x04": ((6, "H"), (8, "H"), (14, "I"), (18, "I"), (22, "I"), (26, "H"), (28, "H")),
    b"PK\x01\x02": (
        *((8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H")),
        *((30, "H"), (32, "H"), (34, "H"), (38, "I"), (42, "I")),
    ),
    b"PK\x05\x06": ((4, "H"), (6, "H"), (8, "H"), (10, "H"), (12, "I"), (16, "I"), (20, "H")),
}
_NAMES = ("../a", "/a", "C:\\a", "a/../../b", "a\\..\\b", "", ".", "\0a", "a" * 300, "__MACOSX/a", "con", "ä\u202e")


def zip_members(data: bytes) -> Members:
    """What can be read of an archive; nothing of one that is damaged."""
    with suppress(Exception), zipfile.ZipFile(BytesIO(data)) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()[:50]]
    return []


def rezipped(members: Sequence[tuple[str, bytes]], *, packed: bool = False) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        for name, content in members:
            entry = zipfile.ZipInfo()
            # Set here, since the constructor would make a hostile name harmless.
            entry.filename = name
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
    return buffer.getvalue()


def one_zip_field(data: bytes, rng: Random) -> bytes:
    signature = rng.choice(sorted(_ZIP_FIELDS))
    spots = [at for at in range(len(data) - 22) if data[at : at + 4] == signature] or [data.rfind(signature)]
    at = rng.choice(spots)
    if at < 0:
        return data
    offset, kind = rng.choice(_ZIP_FIELDS[signature])
    value = rng.choice((*_LENGTHS, len(data), at, rng.randrange(2**32)))
    patch = struct.pack("<" + kind, value % (2**16 if kind == "H" else 2**32))
    return data[: at + offset] + patch + data[at + offset + len(patch) :]


def zip_members_moved(data: bytes, rng: Random) -> bytes:
    """A member left out, there twice, in another place, or under a bad name."""
    members = zip_members(data)
    if not members:
        return data
    number = rng.randrange(len(members))
    match rng.randrange(5):
        case 0:
            del members[number]
        case 1:
            members.append(members[number])
        case 2:
            rng.shuffle(members)
        case 3:
            members[number] = (rng.choice(_NAMES), members[number][1])
        case _:
            members.append((f"copy/{rng.choice(_NAMES)}", members[number][1]))
    return _rezipped_or(data, members)


def zip_contents_crossed(data: bytes, rng: Random) -> bytes:
    """One member's end after another's beginning."""
    members = zip_members(data)
    if len(members) < 2:
        return data
    (name, one), (_, other) = rng.sample(members, 2)
    at, there = rng.randrange(len(one) + 1), rng.randrange(len(other) + 1)
    return _rezipped_or(data, [(known, one[:at] + other[there:] if known == name else kept) for known, kept in members])


def zip_overlapping(data: bytes, rng: Random) -> bytes:
    """Every entry of the directory points at the same member, as in a quine or a bomb."""
    spots = [at for at in range(len(data) - 46) if data[at : at + 4] == b"PK\x01\x02"]
    changed = bytearray(data)
    for at in spots:
        struct.pack_into("<I", changed, at + 42, rng.choice((0, 0, spots[0])))
    return bytes(changed)


def _rezipped_or(data: bytes, members: Members) -> bytes:
    with suppress(ValueError, UnicodeError, struct.error):
        return rezipped(members)
    return data


ZIP_CHANGES: tuple[Change, ...] = (
    one_zip_field,
    one_zip_field,
    zip_members_moved,
    zip_contents_crossed,
    zip_overlapping,
)

# DICOM, as explicit little endian; what is not is damaged without understanding.
_LONG_FORMS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_FORMS = (
    *_LONG_FORMS,
    b"AE",
    b"AT",
    b"CS",
    b"DS",
    b"FD",
    b"FL",
    b"IS",
    b"LO",
    b"SH",
    b"SS",
    b"UI",
    b"UL",
    b"US",
    b"\0\0",
)
_TEXTS = (
    *(b"", b"0", b"-1", b"nan", b"1e999", b"1\\2", b"1\\2\\3\\4\\5\\6\\7", b"0\\0\\0", b"1\\0\\0\\1\\0\\0", b"65535"),
    *(b"999999999999999999", b"\xff" * 40, b"\0\0", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.5", b"RGB"),
    *(
        b"1.2.840.10008.1.2",
        b"1.2.840.10008.1.2.2",
        b"1.2.840.10008.1.2.1.99",
        b"MONOCHROME1",
        b"LOCALIZER",
        b"a" * 5000,
    ),
)
_TAGS = (0x00280010, 0x00280011, 0x00280008, 0x00280100, 0x00280002, 0x7FE00010, 0xFFFEE000, 0xFFFEE0DD, 0x00020010)


def _elements(data: bytes) -> list[tuple[int, int, int]]:
    """Where each element begins, where its value begins, and its length; until the first that makes no sense."""
    found: list[tuple[int, int, int]] = []
    at = 132
    while at + 8 <= len(data) and len(found) < 500:
        long = data[at + 4 : at + 6] in _LONG_FORMS
        start = at + (12 if long else 8)
        raw = data[at + 8 : at + 12] if long else data[at + 6 : at + 8]
        length = int.from_bytes(raw, "little")
        if start + length > len(data):
            found.append((at, start, len(data) - start if length != 0xFFFFFFFF else 0))
            break
        found.append((at, start, length))
        at = start + length
    return found


def one_dicom_element(data: bytes, rng: Random) -> bytes:
    """Another tag, representation, length or value; left out, or there twice."""
    elements = _elements(data)
    if not elements:
        return data
    at, start, length = rng.choice(elements)
    end = start + length
    match rng.randrange(7):
        case 0:
            tag = rng.choice(_TAGS)
            return data[:at] + struct.pack("<HH", tag >> 16, tag & 0xFFFF) + data[at + 4 :]
        case 1:
            return data[: at + 4] + rng.choice(_FORMS) + data[at + 6 :]
        case 2:
            size = 4 if start - at == 12 else 2
            wrong = rng.choice((*_LENGTHS, length + 1, length + 2, max(0, length - 2))) % (1 << 8 * size)
            return data[: start - size] + wrong.to_bytes(size, "little") + data[start:]
        case 3:
            return data[:at] + data[end:]
        case 4:
            return data[:end] + data[at:end] + data[end:]
        case 5:
            number = rng.choice(_LENGTHS).to_bytes(4, "little")
            return data[:start] + (number * length)[:length] + data[end:]
        case _:
            return _with_value(data, at, start, end, rng.choice(_TEXTS))


def _with_value(data: bytes, at: int, start: int, end: int, value: bytes) -> bytes:
    """The value with a length that is right."""
    value += b"\0" * (len(value) % 2)
    size = 4 if start - at == 12 else 2
    return data[: start - size] + len(value).to_bytes(size, "little") + value + data[end:]


def dicom_nesting(data: bytes, rng: Random) -> bytes:
    """Sequences within sequences, none of which ends."""
    elements = _elements(data)
    at = rng.choice(elements)[0] if elements else len(data)
    sequence = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff"
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return data[:at] + (sequence + item) * rng.choice((1, 3, 50, 2000)) + data[at:]


def dicom_fragments(data: bytes, rng: Random) -> bytes:
    """The items that compressed pixels lie in: their lengths, or their end."""
    spots = [at for at in range(132, len(data) - 8) if data[at : at + 2] == b"\xfe\xff"]
    if not spots:
        return one_dicom_element(data, rng)
    at = rng.choice(spots)
    if rng.random() < 0.3:
        return data[:at] + data[at + 8 :]
    return data[: at + 4] + struct.pack("<I", rng.choice((*_LENGTHS, len(data)))) + data[at + 8 :]


def dicom_pixels(data: bytes, rng: Random) -> bytes:
    """Bytes of the coded pixels, which lie at the end, with every length as it was."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 30))):
        at = rng.randrange(len(data) // 3, len(data)) if data else 0
        changed[at : at + 1] = rng.randbytes(1)
    return bytes(changed[: len(data)])


DICOM_CHANGES: tuple[Change, ...] = (
    one_dicom_element,
    one_dicom_element,
    one_dicom_element,
    dicom_fragments,
    dicom_nesting,
    dicom_pixels,
    dicom_pixels,
)


def one_png_chunk(data: bytes, rng: Random) -> bytes:
    """Another type, length or content, with a checksum that is right or not; left out, twice there, or moved."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    match rng.randrange(5):
        case 0:
            del chunks[number]
        case 1:
            chunks.insert(number, chunks[number])
        case 2:
            rng.shuffle(chunks)
        case 3:
            chunks[number] = (rng.choice((b"IHDR", b"IDAT", b"zTXt", b"iCCP", b"acTL", b"PLTE", b"\0\0\0\0")), content)
        case _:
            spot = rng.randrange(len(content) + 1)
            chunks[number] = (kind, content[:spot] + rng.randbytes(4) + content[spot + 4 :])
    sums = rng.random() < 0.8
    return data[:8] + b"".join(_chunk(kind, content, sums) for kind, content in chunks) + data[at:]


def _chunk(kind: bytes, content: bytes, sums: bool) -> bytes:
    check = zlib.crc32(kind + content) if sums else 0
    return len(content).to_bytes(4, "big") + kind + content + check.to_bytes(4, "big")


PNG_CHANGES: tuple[Change, ...] = (one_png_chunk,)
