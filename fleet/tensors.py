"""Named tensors as bytes, without numpy: what the front door and the workers agree on for raw inference.

A bundle is one JSON header and the tensors' bytes behind it, as KServe's binary extension lays them out:

    4 bytes, little-endian: the header's length | header, UTF-8 JSON | blob of the first tensor | of the second | ...

The header is {"tensors": [{"name", "datatype", "shape", "size"}, ...]}; `size` is the blob's bytes. Numbers are
little-endian and row-major; BOOL is one byte, 0 or 1; BYTES is, per element in row-major order, a little-endian uint32
length and that many bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any

from pydantic import Field

from fleet.errors import ValidationFailed
from fleet.values import Frozen, Recorded

#: Of a bundle.
MEDIA_TYPE = "application/vnd.fleet.tensors"
TASK_NAME = "tensors"
#: A result of at most so many bytes lies in the record itself; a larger one is the artifact `OUTPUTS_NAME`.
MAX_INLINE_BYTES = 64 * 1024
OUTPUTS_NAME = "outputs.bin"
#: Of a tensor, as numpy has them.
MAX_DIMENSIONS = 64
_MAX_ELEMENTS = 2**59
#: Of a bundle's header: of the tensors that a graph can have it takes a small part.
_MAX_HEADER_BYTES = 16 * 1024 * 1024
_LENGTH = 4
#: Of the first blob in a bundle that we write; a reader does not count on it.
_ALIGNMENT = 64


class DataType(StrEnum):
    """KServe's names. Triton's config writes them with TYPE_ in front, and BYTES as TYPE_STRING."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def width(self) -> int | None:
        """Bytes per element; None for BYTES, whose elements differ."""
        return _WIDTHS.get(self)


_WIDTHS = {
    DataType.BOOL: 1, DataType.UINT8: 1, DataType.INT8: 1,
    DataType.UINT16: 2, DataType.INT16: 2, DataType.FP16: 2, DataType.BF16: 2,
    DataType.UINT32: 4, DataType.INT32: 4, DataType.FP32: 4,
    DataType.UINT64: 8, DataType.INT64: 8, DataType.FP64: 8,
}  # fmt: skip


class TensorSpec(Recorded):
    """An input or output of a model as requests see it. -1 in `shape` is a free dimension; the batch's is included."""

    name: str
    datatype: DataType
    shape: list[int]
    optional: bool = False


class OutputChoice(Frozen):
    """An output that a request asks for; with `classification` n, its n best classes in words instead of the tensor."""

    name: str = Field(max_length=1024)
    classification: int = Field(default=0, ge=0, le=1_000_000)


class TensorParams(Frozen):
    """The params of a job of the task `tensors`."""

    outputs: list[OutputChoice] = Field(default_factory=list, max_length=1024, description="none: all, in order")


@dataclass(frozen=True)
class Blob:
    """A tensor and its bytes."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: bytes | memoryview

    @property
    def count(self) -> int:
        return prod(self.shape)

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape), "size": len(self.data)}


def opening(tensors: Sequence[Blob]) -> bytes:
    """What a bundle has before its blobs."""
    header = json.dumps({"tensors": [tensor.described() for tensor in tensors]}, separators=(",", ":")).encode()
    # JSON may end in spaces: with them the first blob lies where its numbers can be used in place.
    header += b" " * (-(_LENGTH + len(header)) % _ALIGNMENT)
    return len(header).to_bytes(_LENGTH, "little") + header


def pack(tensors: Sequence[Blob]) -> bytes:
    return b"".join([opening(tensors), *(tensor.data for tensor in tensors)])


def unpack(bundle: bytes | memoryview) -> list[Blob]:
    """The tensors, their bytes still those of `bundle`. Raises ValidationFailed for what is not a whole bundle."""
    view = memoryview(bundle)
    length = int.from_bytes(view[:_LENGTH], "little")
    start = _LENGTH + length
    try:
        if length > _MAX_HEADER_BYTES:
            raise ValueError("no tensors need such a header")
        header = json.loads(bytes(view[_LENGTH:start]))
        return split(header["tensors"], view[start:])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValidationFailed("the input is not a bundle of tensors", code="tensors-unreadable") from error


def split(described: Sequence[dict[str, Any]], blobs: bytes | memoryview) -> list[Blob]:
    """The tensors of a header (or of a result's `outputs`) and their concatenated bytes. Raises ValidationFailed."""
    view, tensors, at = memoryview(blobs), [], 0
    for tensor in described:
        name, size, shape = str(tensor["name"]), int(tensor["size"]), tuple(map(int, tensor["shape"]))
        blob = Blob(name, DataType(tensor["datatype"]), shape, view[at : at + size])
        width = blob.datatype.width
        # A tensor without elements may say of its other dimensions what it likes.
        if len(shape) > MAX_DIMENSIONS or prod(max(1, length) for length in shape) > _MAX_ELEMENTS:
            raise ValidationFailed(
                f"no tensor can have the {len(shape)} dimensions of {name[:128]!r}", code="tensors-unreadable"
            )
        if size < 0 or len(blob.data) != size or (width is not None and size != width * blob.count):
            raise ValidationFailed(
                f"the bytes of tensor {name[:128]!r} do not fit its shape", code="tensors-unreadable"
            )
        tensors.append(blob)
        at += size
    if at != len(view):
        raise ValidationFailed(f"{len(view) - at} bytes follow after the last tensor", code="tensors-unreadable")
    return tensors
