"""Named tensors: a bundle on disk becomes arrays, and a task's outputs become a bundle's bytes.

See `fleet/tensors.py` for the form of a bundle. Strings are object arrays of `str`, as ONNX Runtime takes them.
"""

import base64
import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleet.errors import ValidationFailed
from fleet.tensors import MAX_INLINE_BYTES, OUTPUTS_NAME, Blob, DataType, unpack
from worker.contract import Array, Encoded, EncodedFile, Source

#: Larger bundles stay in their file, and only what is touched of them is read.
_MAPPED_BYTES = 1024**2
_LENGTH_BYTES = 4
#: Little-endian in a bundle, whatever the machine.
_DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.UINT8: np.dtype("u1"),
    DataType.UINT16: np.dtype("<u2"),
    DataType.UINT32: np.dtype("<u4"),
    DataType.UINT64: np.dtype("<u8"),
    DataType.INT8: np.dtype("i1"),
    DataType.INT16: np.dtype("<i2"),
    DataType.INT32: np.dtype("<i4"),
    DataType.INT64: np.dtype("<i8"),
    DataType.FP16: np.dtype("<f2"),
    DataType.FP32: np.dtype("<f4"),
    DataType.FP64: np.dtype("<f8"),
    DataType.BYTES: np.dtype(object),
}
_DATATYPES = {dtype.newbyteorder("="): datatype for datatype, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class NamedArray:
    """An output by its name."""

    name: str
    array: Array


def datatype_of(dtype: np.dtype[Any]) -> DataType:
    """KServe's word for it. Raises KeyError for what has none."""
    return _DATATYPES[dtype.newbyteorder("=")]


def dtype_of(datatype: DataType) -> np.dtype[Any]:
    """Raises ValidationFailed `datatype-unsupported`."""
    try:
        return _DTYPES[datatype]
    except KeyError:
        raise ValidationFailed(
            f"{datatype.value} is not taken: numpy, through which ONNX Runtime is fed, has no such numbers. "
            "Send FP32, or have the model take FP16",
            code="datatype-unsupported",
        ) from None


def read_tensors(sources: Sequence[Source]) -> dict[str, Array]:
    """The arrays by name; those of numbers are read-only views of the bundle's bytes.

    Raises ValidationFailed: `tensors-unreadable`, `tensor-twice`, `tensor-not-utf8`, `datatype-unsupported`.
    """
    if len(sources) != 1:
        raise ValidationFailed(
            f"raw inference takes one bundle of tensors, {len(sources)} inputs were given", code="tensors-unreadable"
        )
    arrays: dict[str, Array] = {}
    for blob in unpack(_content(sources[0])):
        if blob.name in arrays:
            raise ValidationFailed(f"the tensor {blob.name!r} was given twice", code="tensor-twice", tensor=blob.name)
        arrays[blob.name] = array_of(blob)
    return arrays


def _content(source: Source) -> memoryview:
    if source.content is not None:
        return memoryview(source.content)
    if source.path.stat().st_size < _MAPPED_BYTES:
        return memoryview(source.path.read_bytes())
    with source.path.open("rb") as file:
        # The file may be removed before the arrays are: its bytes stay until then.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def array_of(blob: Blob) -> Array:
    """Raises as `read_tensors`."""
    if any(size < 0 for size in blob.shape):
        raise ValidationFailed(
            f"the tensor {blob.name!r} has the shape {list(blob.shape)}: no size can be negative",
            code="tensors-unreadable",
            tensor=blob.name,
        )
    dtype = dtype_of(blob.datatype)
    if blob.datatype is DataType.BYTES:
        return _strings(blob)
    if blob.datatype is DataType.BOOL:
        # Another byte than 0 or 1 is no truth value, and reading it as one is undefined in the libraries below.
        return np.frombuffer(blob.data, np.uint8).astype(np.bool_).reshape(blob.shape)
    array: Array = np.frombuffer(blob.data, dtype).reshape(blob.shape)
    if sys.byteorder == "big":
        return array.astype(dtype.newbyteorder("="))
    # A kernel may load whole registers, and then expects numbers where numbers belong.
    return array if array.flags.aligned else array.copy()


def _strings(blob: Blob) -> Array:
    data, count, at = blob.data, blob.count, 0
    if count * _LENGTH_BYTES > len(data):
        raise _unfit(blob)
    array = np.empty(count, object)
    for index in range(count):
        start = at + _LENGTH_BYTES
        end = start + int.from_bytes(data[at:start], "little")
        if end > len(data) or start > len(data):
            raise _unfit(blob)
        try:
            array[index] = str(data[start:end], "utf-8")
        except UnicodeDecodeError as error:
            raise ValidationFailed(
                f"element {index} of the tensor {blob.name!r} is not UTF-8, and strings of ONNX Runtime are",
                code="tensor-not-utf8",
                tensor=blob.name,
                element=index,
            ) from error
        at = end
    if at != len(data):
        raise _unfit(blob)
    return array.reshape(blob.shape)


def _unfit(blob: Blob) -> ValidationFailed:
    return ValidationFailed(
        f"the bytes of tensor {blob.name!r} are not {blob.count} strings, each with its length before it",
        code="tensors-unreadable",
        tensor=blob.name,
    )


def blob_of(name: str, array: Array) -> Blob:
    """The tensor's bytes; those of numbers are the array's own where it lies in order. Raises KeyError as above."""
    datatype = datatype_of(array.dtype)
    if datatype is DataType.BYTES:
        texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)]
        parts = (part for text in texts for part in (len(text).to_bytes(_LENGTH_BYTES, "little"), text))
        return Blob(name, datatype, array.shape, b"".join(parts))
    if array.size == 0:
        return Blob(name, datatype, array.shape, b"")
    in_order = np.ascontiguousarray(array, _DTYPES[datatype]).reshape(-1)
    return Blob(name, datatype, array.shape, in_order.data.cast("B"))


def encode_tensors(outputs: Sequence[NamedArray], folder: Path) -> Encoded:
    """A small answer lies in the result itself, as base64; a larger one in the artifact `outputs.bin`."""
    blobs = [blob_of(output.name, output.array) for output in outputs]
    result: dict[str, Any] = {"outputs": [blob.described() for blob in blobs]}
    if sum(len(blob.data) for blob in blobs) <= MAX_INLINE_BYTES:
        data = base64.b64encode(b"".join(blob.data for blob in blobs)).decode()
        return Encoded({**result, "data": data}, [])
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / OUTPUTS_NAME
    with path.open("wb") as file:
        for blob in blobs:
            file.write(blob.data)
    return Encoded({**result, "artifact": OUTPUTS_NAME}, [EncodedFile(OUTPUTS_NAME, path, "application/octet-stream")])
