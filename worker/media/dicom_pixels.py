"""How many bytes of uncompressed pixels a DICOM file really holds.

GDCM fills what is missing with whatever its memory held before, without a word; so the file is walked here first.
Source: DICOM PS3.5, section 7 (data elements and sequences) and annex A (transfer syntaxes).
"""

from pathlib import Path
from typing import IO, Literal

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
#: The transfer syntaxes whose pixels lie in the file as they are.
NATIVE_SYNTAXES = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)

_PIXEL_DATA = (0x7FE0, 0x0010)
_ITEM = (0xFFFE, 0xE000)
_ENDS = ((0xFFFE, 0xE00D), (0xFFFE, 0xE0DD))
_UNDEFINED = 0xFFFFFFFF
#: Value representations with four bytes of length after two that are reserved.
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))


def native_pixel_bytes(path: Path, syntax: str) -> int:
    """Length in bytes of the top-level PixelData, as far as the file reaches; 0 when there is none to be found.

    `syntax` is one of NATIVE_SYNTAXES.
    """
    end = path.stat().st_size
    order: Literal["little", "big"] = "big" if syntax == EXPLICIT_BIG else "little"
    #: Whether elements are implicit, at the top and in each open sequence or item.
    implicit = [syntax == IMPLICIT_LITTLE]
    with path.open("rb") as file:
        file.seek(_meta_end(file))
        while (head := _element(file, order, implicit[-1])) is not None:
            tag, kind, length = head
            at = file.tell()
            if tag == _PIXEL_DATA and len(implicit) == 1:
                return 0 if length == _UNDEFINED else max(0, min(length, end - at))
            if tag in _ENDS:
                if len(implicit) == 1:
                    return 0
                implicit.pop()
            elif length == _UNDEFINED:
                # Of unknown representation and length is only what was implicit before it was copied here.
                implicit.append(implicit[-1] or kind == b"UN")
            elif at + length > end:
                return 0
            else:
                file.seek(length, 1)
    return 0


def _meta_end(file: IO[bytes]) -> int:
    """Where the data set begins: behind the file meta group, which is explicit little endian in every file."""
    file.seek(132)
    while True:
        at = file.tell()
        head = _element(file, "little", False)
        if head is None or head[0][0] != 2:
            return at
        file.seek(head[2], 1)


def _element(
    file: IO[bytes], order: Literal["little", "big"], implicit: bool
) -> tuple[tuple[int, int], bytes, int] | None:
    """Tag, value representation and length of the element here; None at the end of the file."""
    head = file.read(8)
    if len(head) < 8:
        return None
    tag = (int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order))
    if implicit or tag == _ITEM or tag in _ENDS:
        return tag, b"", int.from_bytes(head[4:], order)
    kind = head[4:6]
    if kind not in _LONG:
        return tag, kind, int.from_bytes(head[6:], order)
    length = file.read(4)
    return (tag, kind, int.from_bytes(length, order)) if len(length) == 4 else None
