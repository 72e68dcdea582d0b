"""The elements of a tensor: from JSON to bytes and back, without numpy. FP16 and BF16 have no form in JSON."""

import json
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from math import prod
from reprlib import repr as shown
from typing import Any

import orjson

from fleet.errors import ValidationFailed
from fleet.tensors import DataType

#: The codes of Python's `array`.
_CODES = {
    DataType.UINT8: "B", DataType.UINT16: "H", DataType.UINT32: "I", DataType.UINT64: "Q",
    DataType.INT8: "b", DataType.INT16: "h", DataType.INT32: "i", DataType.INT64: "q",
    DataType.FP32: "f", DataType.FP64: "d",
}  # fmt: skip
_FLOATS = frozenset({DataType.FP32, DataType.FP64})
_LENGTH = 4
_CHUNK = 1024 * 1024
#: Numbers larger than these are not in FP32's range; what rounds to them is.
_FP32_END = 2.0**128 - 2.0**103


def from_json(name: str, datatype: DataType, shape: Sequence[int], data: Any) -> bytes:
    """`data` flat, or nested as `shape` says; row-major. Raises ValidationFailed."""
    if datatype in (DataType.FP16, DataType.BF16):
        raise _wrong(name, f"{datatype} has no form in JSON: send it in binary, with `binary_data_size`")
    elements = _flat(name, shape, data)
    if datatype is DataType.BYTES:
        return _strings(name, elements)
    kinds = set(map(type, elements))
    if datatype is DataType.BOOL:
        _check_kinds(name, elements, kinds, {bool}, "true or false")
        return bytes(elements)
    if datatype in _FLOATS:
        _check_kinds(name, elements, kinds, {int, float}, "a number")
        return _floats(name, datatype, elements)
    _check_kinds(name, elements, kinds, {int}, "a whole number")
    try:
        return _little_endian(array(_CODES[datatype], elements))
    except OverflowError:
        raise _wrong(name, f"{_outside(datatype, elements)} is outside the range of {datatype}") from None


def to_json(name: str, datatype: DataType, data: memoryview) -> bytes:
    """A flat JSON list. FP32 is written so that it is the same FP32 when it is read; NaN and Infinity by those words.

    Raises ValidationFailed for what has no form in JSON.
    """
    if datatype is DataType.BYTES:
        try:
            return orjson.dumps([str(element, "utf-8") for element in byte_elements(name, data)])
        except UnicodeDecodeError:
            raise _wrong(name, "its bytes are no UTF-8: ask for it with `binary_data`", what="output") from None
    if datatype is DataType.BOOL:
        return orjson.dumps([byte != 0 for byte in data])
    if datatype not in _CODES:
        raise _wrong(name, f"{datatype} has no form in JSON: ask for it with `binary_data`", what="output")
    elements = array(_CODES[datatype])
    elements.frombytes(data)
    if sys.byteorder == "big":
        elements.byteswap()
    values = elements.tolist()
    if datatype in _FLOATS and not math.isfinite(sum(values)):
        return json.dumps(values, separators=(",", ":")).encode()
    return orjson.dumps(values)


def byte_elements(name: str, data: memoryview) -> Iterator[memoryview]:
    """The elements of BYTES. Raises ValidationFailed where a length leads out of the data."""
    at, end = 0, len(data)
    while at < end:
        start = at + _LENGTH
        at = start + int.from_bytes(data[at:start], "little")
        if start > end or at > end:
            raise _wrong(name, "a length inside of its BYTES leads out of its data")
        yield data[start:at]


def check_bytes(name: str, datatype: DataType, shape: Sequence[int], data: memoryview) -> None:
    """Of a tensor that came in binary. Raises ValidationFailed."""
    count = prod(shape)
    if datatype.width is None:
        found = sum(1 for _ in byte_elements(name, data))
        if found != count:
            raise _wrong(name, f"{found} elements came, and its shape {list(shape)} has {count}")
    elif len(data) != count * datatype.width:
        wanted = f"{count} × {datatype.width} = {count * datatype.width} bytes"
        raise _wrong(name, f"{len(data)} bytes came, and {datatype} of shape {list(shape)} has {wanted}")
    elif datatype is DataType.BOOL:
        for at in range(0, len(data), _CHUNK):
            if bytes(data[at : at + _CHUNK]).translate(None, b"\0\1"):
                raise _wrong(name, "a BOOL is a byte that is 0 or 1, and another came")


def _flat(name: str, shape: Sequence[int], data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise _wrong(name, "`data` must be a list")
    if data and isinstance(data[0], list):
        return _unnested(name, shape, data)
    if len(data) != prod(shape):
        raise _wrong(name, f"`data` has {len(data)} elements, and its shape {list(shape)} has {prod(shape)}")
    return data


def _unnested(name: str, shape: Sequence[int], data: list[Any]) -> list[Any]:
    """Level by level, each as long as the shape says."""
    fits = list(shape[:1]) == [len(data)]
    for size in shape[1:]:
        fits = fits and all(isinstance(row, list) and len(row) == size for row in data)
        if not fits:
            break
        data = list(chain.from_iterable(data))
    if not fits or (data and isinstance(data[0], list)):
        raise _wrong(name, f"`data` is nested otherwise than its shape {list(shape)} says: nest it so, or send it flat")
    return data


def _strings(name: str, elements: list[Any]) -> bytes:
    _check_kinds(name, elements, set(map(type, elements)), {str}, "a text; other bytes go in binary")
    try:
        encoded = [element.encode() for element in elements]
    except UnicodeEncodeError:
        raise _wrong(name, "a text has half a character (a lone surrogate)") from None
    return b"".join(chain.from_iterable((len(text).to_bytes(_LENGTH, "little"), text) for text in encoded))


def _floats(name: str, datatype: DataType, elements: list[Any]) -> bytes:
    try:
        values = array("d", elements)
    except OverflowError:
        raise _wrong(name, f"a number is outside the range of {datatype}") from None
    if datatype is DataType.FP64:
        return _little_endian(values)
    narrowed = array("f", values)
    if not math.isfinite(sum(narrowed)):
        beyond = next((value for value in values if _FP32_END <= abs(value) < math.inf), None)
        if beyond is not None:
            raise _wrong(name, f"{beyond!r} is outside the range of FP32")
    return _little_endian(narrowed)


def _little_endian(elements: "array[Any]") -> bytes:
    if sys.byteorder == "big":
        elements.byteswap()
    return elements.tobytes()


def _check_kinds(name: str, elements: list[Any], found: set[type], allowed: set[type], wanted: str) -> None:
    if not found <= allowed:
        wrong = next(element for element in elements if type(element) not in allowed)
        raise _wrong(name, f"each element of `data` must be {wanted}, not {shown(wrong)}")


def _outside(datatype: DataType, elements: list[int]) -> str:
    for element in elements:
        try:
            array(_CODES[datatype], [element])
        except OverflowError:
            return shown(element)
    return "a number"


def _wrong(name: str, detail: str, what: str = "input") -> ValidationFailed:
    return ValidationFailed(f"{what} {name!r}: {detail}", code="tensors-invalid")
