"""File names that callers give: kept readable, made safe for object keys, headers and paths."""

import re
import unicodedata

_MAX_BYTES = 255
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")


def clean_name(name: str) -> str:
    """The last part of a path in NFC, without control characters, of at most 255 bytes; `file` when nothing is left."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    kept = _UNSAFE.sub("", last).strip()
    if len(kept.encode()) > _MAX_BYTES:
        kept = _shortened(kept)
    return kept if kept.strip(".") else "file"


def _shortened(name: str) -> str:
    """Cuts the stem and keeps the suffixes, since they tell the format (`.nii.gz`)."""
    stem, dot, suffix = name.partition(".")
    if len(suffix.encode()) > 32:
        stem, dot, suffix = name, "", ""
    room = _MAX_BYTES - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix
