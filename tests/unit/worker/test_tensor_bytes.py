"""Arrays to the bytes of a bundle and back: the same numbers, the same strings, and refusals in words."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fleet.errors import ValidationFailed
from fleet.tensors import Blob, DataType, OutputChoice, pack, unpack
from worker.contract import RequestTensor, Signature
from worker.engine.feeds import carried, feeds_of
from worker.media.tensors import array_of, blob_of, datatype_of, dtype_of
from worker.tasks.tensors import ranked, wanted_outputs

NUMBERS = [datatype for datatype in DataType if datatype not in (DataType.BF16, DataType.BYTES)]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    datatype = draw(st.sampled_from([*NUMBERS, DataType.BYTES]))
    shape = draw(SHAPES)
    if datatype is DataType.BYTES:
        texts = draw(st.lists(st.text(max_size=8), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        array = np.empty(len(texts), object)
        array[:] = texts
        return array.reshape(shape)
    return draw(arrays.arrays(dtype_of(datatype), shape))


@given(st.lists(tensors(), max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_is_packed_comes_out_the_same(given_arrays: list[np.ndarray[Any, Any]]) -> None:
    bundle = pack([blob_of(f"tensor {n}", array) for n, array in enumerate(given_arrays)])
    found = unpack(bundle)
    assert [blob.name for blob in found] == [f"tensor {n}" for n in range(len(given_arrays))]
    for blob, array in zip(found, given_arrays, strict=True):
        again = array_of(blob)
        assert (again.dtype, again.shape) == (array.dtype, array.shape)
        assert again.tobytes() == array.tobytes() if array.dtype != object else again.tolist() == array.tolist()
        assert again.flags.aligned


@pytest.mark.parametrize(
    ("shape", "header"),
    [
        ("[Infinity]", "{}"),
        ("[1" + ", 1" * 64 + "]", "{}"),
        ("[4611686018427387904" + ", 4611686018427387904" * 100_000 + "]", "{}"),
        ("[0, 4611686018427387904]", "{}"),
        ("[0, 4611686018427387904, 4611686018427387904]", "{}"),
        ("[-1, -1]", "{}"),
        ("[1]", "[" * 5000),
        ("[1]", "{}" + " " * 17 * 1024**2),
    ],
    ids=["infinite", "65-dimensions", "many", "empty-and-huge", "empty-and-huger", "negative", "deep", "long-header"],
)
def test_no_header_is_more_than_refused(shape: str, header: str) -> None:
    size = 0 if shape.startswith("[0") else 4
    tensor = f'{{"name": "x", "datatype": "FP32", "shape": {shape}, "size": {size}}}'
    text = f'{{"more": {header}, "tensors": [{tensor}]}}'.encode()
    bundle = len(text).to_bytes(4, "little") + text + bytes(size)
    with pytest.raises(ValidationFailed) as refused:
        list(map(array_of, unpack(bundle)))
    assert refused.value.code == "tensors-unreadable"


def test_numbers_are_used_where_they_lie() -> None:
    bundle = pack([blob_of("x", np.arange(1000.0))])
    array = array_of(unpack(bundle)[0])
    assert np.shares_memory(array, np.frombuffer(bundle, np.uint8))


def test_an_array_that_lies_out_of_order_is_packed_in_order() -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4).T
    np.testing.assert_array_equal(array_of(blob_of("x", array)), array)


@pytest.mark.parametrize(
    "blob",
    [
        Blob("x", DataType.BYTES, (2,), b"\1\0\0\0a"),
        Blob("x", DataType.BYTES, (1,), b"\5\0\0\0a"),
        Blob("x", DataType.BYTES, (1,), b"\1\0\0\0ab"),
        Blob("x", DataType.BYTES, (2**40,), b""),
        Blob("x", DataType.FP32, (-1, -1), b"\0" * 4),
    ],
)
def test_bytes_that_do_not_fit_are_refused_before_anything_is_made_of_them(blob: Blob) -> None:
    with pytest.raises(ValidationFailed) as caught:
        array_of(blob)
    assert caught.value.code == "tensors-unreadable"


def test_every_datatype_but_one_has_its_numpy_type_and_back() -> None:
    for datatype in [*NUMBERS, DataType.BYTES]:
        assert datatype_of(dtype_of(datatype)) is datatype
    with pytest.raises(ValidationFailed, match="BF16 is not taken"):
        dtype_of(DataType.BF16)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (np.float32([0.5, 1.5, 0.5]), ["1.500000:1", "0.500000:0", "0.500000:2"]),
        (np.float32([np.nan, 1, 2]), ["2.000000:2", "1.000000:1", "nan:0"]),
        (np.uint8([0, 255, 7]), ["255:1", "7:2", "0:0"]),
        (np.int64([-5, -5, 9]), ["9:2", "-5:0", "-5:1"]),
        (np.float16([[1, 2], [4, 3]]), ["4.000000:2", "3.000000:3", "2.000000:1"]),
    ],
)
def test_classes_are_ranked_by_value_and_equal_ones_by_index(scores: Any, words: list[str]) -> None:
    assert ranked(scores, 3).tolist() == words


def test_a_batch_is_ranked_row_by_row_and_never_beyond_its_classes() -> None:
    found = ranked(np.float32([[1, 2], [2, 1]]), 9, ["a", ""], batched=True)
    assert found.tolist() == [["2.000000:1", "1.000000:0:a"], ["2.000000:0:a", "1.000000:1"]]
    assert ranked(np.zeros((0, 3), np.float32), 2, batched=True).shape == (0, 2)


def test_an_optional_input_may_be_left_out() -> None:
    tensor = RequestTensor("x", DataType.FP32, (-1,))
    signature = Signature((tensor, RequestTensor("scale", DataType.FP32, (1,), optional=True)), (tensor,))
    assert list(feeds_of({"x": np.zeros(3, np.float32)}, signature)) == ["x"]


def test_a_request_without_choices_gets_every_output() -> None:
    outputs = (RequestTensor("a", DataType.FP32, (1,)), RequestTensor("b", DataType.FP32, None))
    assert [choice for choice, _ in wanted_outputs([], Signature((), outputs))] == [
        OutputChoice(name="a"), OutputChoice(name="b"),
    ]  # fmt: skip


def test_free_dimensions_are_carried_through_a_reshape_in_order() -> None:
    assert carried((5, 2, 7, 3), (-1, 2, -1, 3), (-1, -1, 6)) == (5, 7, 6)
