"""Bytes that stand in a request itself: base64, bare or as a data URI."""

import binascii
import re
from dataclasses import dataclass

import pybase64
from pydantic import PrivateAttr

from api.requests import InputRequest
from fleet.errors import ValidationFailed

#: Source: RFC 2397. Parameters of the media type, a charset for one, are of no use for bytes.
_DATA_URI = re.compile(r"data:(?P<type>[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+)?(?:;[^,;]+)*;base64,", re.ASCII)
#: A header longer than this is none.
_HEADER_CHARACTERS = 1024


@dataclass(frozen=True)
class Inline:
    #: base64, without whatever stood before it.
    text: str
    content: bytes
    media_type: str


class ReadInput(InputRequest):
    """One whose `data` has been decoded."""

    _inline: Inline = PrivateAttr()

    @property
    def inline(self) -> Inline:
        return self._inline


def read_data(request: InputRequest, number: int) -> ReadInput:
    """Raises as `parse_data`, which need not decode it again."""
    read = ReadInput.model_construct(**dict(request))
    read._inline = parse_data(request, number)
    return read


def parse_data(request: InputRequest, number: int) -> Inline:
    """The `data` of input `number`. Raises ValidationFailed `not-base64` or `empty-input`."""
    if isinstance(request, ReadInput):
        return request.inline
    where, text, media_type = f"#/inputs/{number}/data", request.data or "", request.media_type
    if text[:5].lower() == "data:":
        header = _DATA_URI.match("data:" + text[5:_HEADER_CHARACTERS])
        if header is None:
            raise _fault("is a data URI without base64: write data:image/png;base64,...", where, "not-base64")
        text, media_type = text[header.end() :], media_type or header["type"]
    try:
        content = pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = "is not base64 (standard alphabet, padded, no line breaks)"
        raise _fault(detail, where, "not-base64") from error
    if not content:
        raise _fault("is empty", where, "empty-input")
    return Inline(text, content, media_type or "application/octet-stream")


def _fault(detail: str, where: str, code: str) -> ValidationFailed:
    return ValidationFailed(f"{where} {detail}", [{"detail": detail, "pointer": where}], code=code)
