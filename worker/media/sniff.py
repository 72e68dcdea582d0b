"""What a file is, by its first bytes. Names and media types are only hints, and nobody here believes them."""

import re
from enum import StrEnum

from fleet.errors import UnsupportedMedia

#: How much of a file `sniff` wants to see.
HEAD_BYTES = 4096


class Format(StrEnum):
    NIFTI = "nifti"
    NIFTI2 = "nifti2"
    NIFTI_PAIR = "nifti-pair"
    ANALYZE = "analyze"
    NRRD = "nrrd"
    METAIMAGE = "metaimage"
    DICOM = "dicom"
    ZIP = "zip"
    GZIP = "gzip"
    ARCHIVE = "archive"
    OTHER = "other"


_METAIMAGE = re.compile(rb"\A(?:[A-Za-z]+[ \t]*=[^\n]*\n)*?(?:NDims|ElementDataFile)[ \t]*=")
#: bytes, where they stand, what they mean
_MAGIC = (
    (b"PK\x03\x04", 0, Format.ZIP),
    (b"PK\x05\x06", 0, Format.ZIP),
    (b"\x1f\x8b", 0, Format.GZIP),
    (b"BZh", 0, Format.ARCHIVE),
    (b"\xfd7zXZ\x00", 0, Format.ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", 0, Format.ARCHIVE),
    (b"Rar!", 0, Format.ARCHIVE),
    (b"\x28\xb5\x2f\xfd", 0, Format.ARCHIVE),
    (b"ustar", 257, Format.ARCHIVE),
    (b"NRRD000", 0, Format.NRRD),
    (b"DICM", 128, Format.DICOM),
)


def sniff(head: bytes) -> Format:
    """The format of a file that begins with `head`."""
    for magic, offset, found in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return found
    if head[:4] in _sizes(348):
        return {b"n+1\0": Format.NIFTI, b"ni1\0": Format.NIFTI_PAIR}.get(head[344:348], Format.ANALYZE)
    if head[:4] in _sizes(540):
        return Format.NIFTI2
    return Format.METAIMAGE if _METAIMAGE.match(head.replace(b"\r\n", b"\n")) else Format.OTHER


def _sizes(header_bytes: int) -> tuple[bytes, bytes]:
    """How NIfTI begins: the size of its header, in either byte order."""
    return header_bytes.to_bytes(4, "little"), header_bytes.to_bytes(4, "big")


_ADVICE = {
    Format.NIFTI2: "is NIfTI-2; save it as NIfTI-1",
    Format.NIFTI_PAIR: "is a NIfTI header whose voxels lie in another file; save both as one .nii",
    Format.ANALYZE: "is Analyze 7.5, which cannot say left from right; save it as NIfTI",
    Format.DICOM: "is a single DICOM file; send the whole series as one zip",
    Format.ARCHIVE: "is an archive other than zip",
    Format.OTHER: "is none of NIfTI, NRRD, MetaImage or a zipped DICOM series",
}


def not_a_volume(found: Format, what: str = "the file") -> UnsupportedMedia:
    """The error for a format that is not read here; `what` begins the sentence."""
    advice = _ADVICE.get(found, f"is {found.value}, which is not read here")
    return UnsupportedMedia(f"{what} {advice}", code="not-a-volume", found=found.value)
