"""Elements of tensors between JSON and bytes, against numpy."""

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from api.kserve.elements import check_bytes, from_json, to_json
from fleet.errors import ValidationFailed
from fleet.tensors import DataType

DTYPES: dict[DataType, str] = {
    DataType.BOOL: "?",
    DataType.UINT8: "u1",
    DataType.UINT16: "<u2",
    DataType.UINT32: "<u4",
    DataType.UINT64: "<u8",
    DataType.INT8: "i1",
    DataType.INT16: "<i2",
    DataType.INT32: "<i4",
    DataType.INT64: "<i8",
    DataType.FP32: "<f4",
    DataType.FP64: "<f8",
}


@pytest.mark.parametrize("datatype", DTYPES)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_numpy_writes_is_read_as_the_same_bytes_and_written_as_the_same_numbers(
    datatype: DataType, data: st.DataObject
) -> None:
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    array = data.draw(
        arrays.arrays(DTYPES[datatype], shape, elements={"allow_nan": False} if datatype.startswith("FP") else None)
    )
    nested = array.tolist() if shape else [array.item()]
    for form in (nested, array.ravel().tolist()):
        assert from_json("x", datatype, shape, form) == array.tobytes()
    written = to_json("x", datatype, memoryview(array.tobytes()))
    assert np.array(json.loads(written), array.dtype).tobytes() == array.tobytes()


def test_fp32_survives_json() -> None:
    values = np.array([0.1, 1 / 3, 3.4028235e38, 1.4e-45, -0.0], np.float32)
    read = orjson.loads(to_json("x", DataType.FP32, memoryview(values.tobytes())))
    assert np.float32(read).tobytes() == values.tobytes()


def test_numbers_that_are_not_finite_are_said_in_words() -> None:
    values = np.array([math.nan, math.inf, -math.inf, 1], np.float32)
    assert to_json("x", DataType.FP32, memoryview(values.tobytes())) == b"[NaN,Infinity,-Infinity,1.0]"
    assert from_json("x", DataType.FP32, [1], [math.inf]) == np.float32(math.inf).tobytes()


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"),
    [
        (DataType.INT8, [1], [128], "128 is outside the range of INT8"),
        (DataType.UINT64, [1], [-1], "-1 is outside"),
        (DataType.UINT64, [1], [2**64], "is outside"),
        (DataType.INT32, [1], [1.0], "a whole number, not 1.0"),
        (DataType.INT32, [1], [True], "a whole number, not True"),
        (DataType.FP32, [1], [True], "a number, not True"),
        (DataType.FP32, [1], ["1"], "a number, not '1'"),
        (DataType.FP32, [1], [None], "a number, not None"),
        (DataType.FP32, [1], [1e39], "1e+39 is outside the range of FP32"),
        (DataType.FP64, [1], [10**400], "outside the range of FP64"),
        (DataType.BOOL, [1], [1], "true or false, not 1"),
        (DataType.BYTES, [1], [1], "a text; other bytes go in binary, not 1"),
        (DataType.BYTES, [1], ["\ud800"], "half a character"),
        (DataType.FP16, [1], [1.0], "has no form in JSON"),
        (DataType.BF16, [1], [1.0], "has no form in JSON"),
        (DataType.INT32, [2], [1], "has 1 elements, and its shape [2] has 2"),
        (DataType.INT32, [2, 2], [[1, 2], [3]], "nested otherwise"),
        (DataType.INT32, [2, 2], [[1], [2], [3], [4]], "nested otherwise"),
        (DataType.INT32, [2, 2], [[1, 2], 3, 4], "nested otherwise"),
        (DataType.INT32, [2, 2], [1, [2], 3, 4], "a whole number, not [2]"),
        (DataType.INT32, [1], [[1]], "nested otherwise"),
        (DataType.INT32, [], [[1]], "nested otherwise"),
        (DataType.INT32, [1], 1, "must be a list"),
        (DataType.INT32, [1], {"0": 1}, "must be a list"),
    ],
)
def test_wrong_elements_are_refused_by_name(datatype: DataType, shape: list[int], data: Any, said: str) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        from_json("x", datatype, shape, data)
    assert refusal.value.message.startswith("input 'x': ")
    assert said in refusal.value.message


def test_bytes_that_round_to_the_largest_fp32_are_taken() -> None:
    assert from_json("x", DataType.FP32, [1], [3.40282356e38]) == np.float32(3.4028235e38).tobytes()


def test_strings_have_their_length_before_them() -> None:
    data = from_json("x", DataType.BYTES, [2], ["ab", "c"])
    assert data == b"\2\0\0\0ab\1\0\0\0c"
    assert to_json("x", DataType.BYTES, memoryview(data)) == b'["ab","c"]'
    with pytest.raises(ValidationFailed, match="no UTF-8"):
        to_json("x", DataType.BYTES, memoryview(b"\1\0\0\0\xff"))


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"),
    [
        (DataType.FP32, [2], b"1234", "4 bytes came, and FP32 of shape [2] has 2 × 4 = 8 bytes"),
        (DataType.FP16, [2], b"", "0 bytes came"),
        (DataType.BOOL, [2], b"\0\2", "a byte that is 0 or 1"),
        (DataType.BYTES, [1], b"\2\0\0\0a", "leads out of its data"),
        (DataType.BYTES, [1], b"\2\0", "leads out of its data"),
        (DataType.BYTES, [2], b"\1\0\0\0a", "1 elements came"),
    ],
)
def test_wrong_bytes_are_refused_by_name(datatype: DataType, shape: list[int], data: bytes, said: str) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        check_bytes("x", datatype, shape, memoryview(data))
    assert said in refusal.value.message
