"""Inference requests against a card: what is taken, and how what is wrong is said."""

import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from api.kserve.request import InferRequest, read_request
from fleet.card import Card
from fleet.contracts import MediaKind, PriorityName, ResultKind
from fleet.errors import InputError, MalformedRequest, ValidationFailed
from fleet.tensors import DataType, TensorSpec
from tests.support.front_door import card

X = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}


def model(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = (), max_batch_size: int = 0) -> Card:
    return card(
        "model",
        accepts=MediaKind.TENSORS,
        returns=ResultKind.JSON,
        inputs=list(inputs) or [spec("x", DataType.FP32, -1, 3)],
        outputs=list(outputs) or [spec("y", DataType.FP32, -1, 3), spec("half", DataType.FP16, -1)],
        max_batch_size=max_batch_size,
    )


def spec(name: str, datatype: DataType, *shape: int, optional: bool = False) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=list(shape), optional=optional)


def read(body: Any, of: Card | None = None, blobs: bytes = b"", length: str | None = None) -> InferRequest:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    sent = {"inference-header-content-length": length or str(len(text))} if blobs or length else {}
    return read_request(memoryview(text + blobs), Headers(sent), of or model())


def refused(body: Any, **more: Any) -> str:
    with pytest.raises(InputError) as refusal:
        read(body, **more)
    return str(refusal.value.message)


def asking(binary: bool = True, **more: Any) -> dict[str, Any]:
    return {"inputs": [X], "parameters": {"binary_data_output": binary}, **more}


def test_json_and_binary_inputs_go_together() -> None:
    of = model(spec("a", DataType.INT8, 2), spec("x", DataType.FP32, -1, 3), spec("b", DataType.BYTES, -1))
    a = {"name": "a", "shape": [2], "datatype": "INT8", "parameters": {"binary_data_size": 2}}
    b = {"name": "b", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    found = read(asking(inputs=[a, X, b]), of, blobs=b"\1\xff\1\0\0\0z").tensors
    assert [tensor.name for tensor in found] == ["a", "x", "b"]
    assert (bytes(found[0].data), bytes(found[2].data)) == (b"\1\xff", b"\1\0\0\0z")
    assert found[1].shape == (2, 3)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (None, None),
        (0, None),
        (1, PriorityName.URGENT),
        (2, PriorityName.HIGH),
        (3, PriorityName.NORMAL),
        (4, PriorityName.LOW),
        (2**40, PriorityName.LOW),
    ],
)
def test_priorities_are_tritons(number: int | None, name: PriorityName | None) -> None:
    given = {} if number is None else {"priority": number}
    assert read(asking(parameters={"binary_data_output": True, **given})).priority is name


@pytest.mark.parametrize(("microseconds", "seconds"), [(0, None), (1, 1e-6), (2_500_000, 2.5), (2**63, 2_592_000.0)])
def test_timeouts_are_microseconds(microseconds: int, seconds: float | None) -> None:
    parameters = {"binary_data_output": True, "timeout": microseconds}
    assert read(asking(parameters=parameters)).timeout_s == seconds


def test_outputs_come_in_the_order_that_was_asked_for() -> None:
    outputs = [
        {"name": "half", "parameters": {"binary_data": True}},
        {"name": "y", "parameters": {"classification": 2}},
    ]
    found = read(asking(binary=False, outputs=outputs)).outputs
    assert [(one.name, one.binary, one.classification) for one in found] == [("half", True, 0), ("y", False, 2)]


def test_an_output_outranks_what_is_said_of_all() -> None:
    assert [
        one.binary for one in read(asking(outputs=[{"name": "y", "parameters": {"binary_data": False}}])).outputs
    ] == [False]
    assert [one.binary for one in read(asking(outputs=[])).outputs] == [True, True]


def test_custom_parameters_and_unknown_members_are_passed_over() -> None:
    parameters = {"binary_data_output": True, "custom": "word", "number": 1.5, "flag": True, "sequence_id": 0}
    assert read(asking(parameters=parameters, more={"x": None}, id="")).id == ""


def test_optional_inputs_may_be_left_out() -> None:
    of = model(spec("x", DataType.FP32, -1, 3), spec("z", DataType.FP32, 1, optional=True))
    assert [tensor.name for tensor in read(asking(), of).tensors] == ["x"]


def test_empty_tensors_are_tensors() -> None:
    given = asking(inputs=[{**X, "shape": [0, 3], "data": []}])
    assert read(given).tensors[0].shape == (0, 3)
    given = asking(inputs=[{"name": "x", "shape": [0, 3], "datatype": "FP32", "parameters": {"binary_data_size": 0}}])
    assert read(given).tensors[0].shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "w"}, "has no input 'w'; its inputs are: x (FP32 [-1, 3])"),
        ({"datatype": "FP64"}, "FP64 [2, 3] was given, and the model 'model' wants FP32 [-1, 3]"),
        ({"datatype": "float"}, "float [2, 3] was given"),
        ({"shape": [2, 4]}, "FP32 [2, 4] was given"),
        ({"shape": [6]}, "FP32 [6] was given"),
        ({"shape": [-2, 3]}, "inputs.0.shape.0"),
        ({"shape": [2.0, 3]}, "inputs.0.shape.0"),
        ({"shape": [True, 3]}, "inputs.0.shape.0"),
        ({"data": None}, "neither `data` nor `binary_data_size`"),
        ({"parameters": {"binary_data_size": 24}}, "both `data` and `binary_data_size`"),
        ({"data": None, "parameters": {"binary_data_size": 24}}, "the body ends after 0"),
        ({"data": None, "parameters": {"binary_data_size": -1}}, "must be a number of bytes, not -1"),
        ({"data": None, "parameters": {"binary_data_size": True}}, "must be a number of bytes, not True"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory is not possible here"),
        ({"data": [[1, 2], [3, 4], [5, 6]]}, "nested otherwise"),
    ],
)
def test_a_wrong_input_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    assert said in refused(asking(inputs=[{**X, **change}]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": []}, "input 'x' is missing: the model 'model' wants FP32 [-1, 3]"),
        ({"inputs": [X, X]}, "input 'x' was given twice"),
        ({"inputs": None}, "inputs: "),
        ({"inputs": {}}, "inputs: "),
        ({"outputs": [{"name": "w"}]}, "has no output 'w'; its outputs are: y (FP32 [-1, 3]), half (FP16 [-1])"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "output 'y' is asked for twice"),
        ({"outputs": [{"name": "y", "parameters": {"classification": -1}}]}, "a number of classes, not -1"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "`binary_data` must be true or false, not 1"),
        ({"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}, "shared memory"),
        ({"outputs": [{"name": "half", "parameters": {"binary_data": False}}]}, "FP16 has no form in JSON"),
        ({"parameters": {}}, "output 'half': FP16 has no form in JSON"),
        ({"parameters": {"sequence_id": 4}}, "'sequence_id': sequences of requests are not possible"),
        ({"parameters": {"sequence_start": True}}, "'sequence_start'"),
        ({"parameters": {"triton_x": 1}}, "'triton_x': names that begin with 'triton_' are reserved"),
        (
            {"parameters": {"priority": -1, "binary_data_output": True}},
            "'priority' must be a whole number from 0, not -1",
        ),
        ({"parameters": {"priority": "1", "binary_data_output": True}}, "'priority' must be a whole number"),
        ({"parameters": {"timeout": 1.5, "binary_data_output": True}}, "'timeout' must be a whole number"),
        ({"parameters": {"binary_data_output": "yes"}}, "`binary_data_output` must be true or false"),
        ({"parameters": {"object": {}}}, "parameters.object"),
        ({"parameters": []}, "parameters: "),
        ({"id": 7}, "id: "),
    ],
)
def test_a_wrong_request_is_refused_in_words(change: dict[str, Any], said: str) -> None:
    assert said in refused({**asking(), **change})


def test_a_batch_has_its_limit_and_one_size() -> None:
    of = model(spec("x", DataType.INT8, -1, 1), spec("z", DataType.INT8, -1, 1), max_batch_size=2)

    def batch(x: int, z: int) -> dict[str, Any]:
        return asking(
            inputs=[{"name": n, "shape": [s, 1], "datatype": "INT8", "data": [0] * s} for n, s in (("x", x), ("z", z))]
        )

    assert len(read(batch(2, 2), of).tensors) == 2
    assert "a batch of 3 was given, and the model 'model' takes at most 2" in refused(batch(3, 3), of=of)
    assert "one batch size, which is their first dimension: {'x': 1, 'z': 2}" in refused(batch(1, 2), of=of)


@pytest.mark.parametrize("length", ["-1", "x", "1.0", "+3", "9" * 30, "100000"])
def test_a_header_length_that_cannot_be_is_refused(length: str) -> None:
    assert "Inference-Header-Content-Length must be a number" in refused(asking(), length=length)


def test_bytes_that_nobody_announced_are_refused() -> None:
    assert "3 bytes follow the JSON, and the inputs announce 0" in refused(asking(), blobs=b"abc")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000, b"[NaN"])
def test_what_is_no_request_is_refused(text: bytes) -> None:
    assert refused(text)


def test_numbers_that_are_not_finite_are_taken_as_tritons_client_writes_them() -> None:
    text = orjson.dumps(asking()).replace(b"[1,2,3,4,5,6]", b"[NaN,Infinity,-Infinity,1,2,3]")
    assert bytes(read(text).tensors[0].data[:4]) == b"\0\0\xc0\x7f"
    with pytest.raises(MalformedRequest):
        read(text.replace(b'"x"', b'"\\ud800"'))


def raw(body: bytes, of: Card) -> InferRequest:
    return read_request(memoryview(body), Headers({"inference-header-content-length": "0"}), of)


def test_a_raw_body_is_the_one_input() -> None:
    found = raw(bytes(24), model())
    assert (found.tensors[0].shape, [one.binary for one in found.outputs]) == ((2, 3), [True, True])
    assert raw(b"", model()).tensors[0].shape == (0, 3)
    batching = model(spec("x", DataType.UINT8, -1, -1), max_batch_size=4)
    assert raw(b"abc", batching).tensors[0].shape == (1, 3)
    text = raw("é".encode(), model(spec("x", DataType.BYTES, 1))).tensors[0]
    assert (text.shape, bytes(text.data)) == ((1,), b"\2\0\0\0\xc3\xa9")


@pytest.mark.parametrize(
    ("specs", "body", "said"),
    [
        ([spec("x", DataType.FP32, -1, 3)], b"12345", "5 bytes came"),
        ([spec("x", DataType.FP32, 3)], b"1234", "4 bytes came"),
        ([spec("x", DataType.FP32, -1, -1)], b"1234", "says nothing of the free dimensions"),
        ([spec("x", DataType.BYTES, 2)], b"a", "one element of BYTES"),
        ([spec("x", DataType.FP32, 1), spec("z", DataType.FP32, 1)], b"1234", "for models with one input"),
    ],
)
def test_a_raw_body_that_fits_no_input_is_refused(specs: list[TensorSpec], body: bytes, said: str) -> None:
    with pytest.raises(ValidationFailed, match=r"raw body|bytes came") as refusal:
        raw(body, model(*specs))
    assert said in refusal.value.message


def test_a_model_without_tensors_says_where_to_go() -> None:
    of = card("volume", task="segmentation", accepts=MediaKind.VOLUME, returns=ResultKind.MASK)
    assert 'POST /api/v1/jobs with "task": "segmentation"' in refused(asking(), of=of)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["id", "parameters", "inputs", "outputs"]),
    inner=st.sampled_from([None, *X, "parameters"]),
    value=JSON,
)
def test_whatever_is_sent_is_read_or_refused(name: str, inner: str | None, value: Any) -> None:
    body = {**asking(), name: value} if inner is None else asking(inputs=[{**X, inner: value}])
    with suppress(InputError):
        assert isinstance(read(json.dumps(body).encode()), InferRequest)
