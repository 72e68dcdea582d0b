"""The quick reading of an ONNX file sees what the onnx library and ONNX Runtime see."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fleet.errors import ModelError
from fleet.tensors import DataType
from tests.support.detectors import saying
from tests.support.triton_repository import identity, save_graph
from worker.engine.graph_tensors import graph_notes, graph_tensors

KINDS = {
    TensorProto.FLOAT: DataType.FP32, TensorProto.FLOAT16: DataType.FP16, TensorProto.DOUBLE: DataType.FP64,
    TensorProto.BFLOAT16: DataType.BF16, TensorProto.BOOL: DataType.BOOL, TensorProto.STRING: DataType.BYTES,
    TensorProto.INT8: DataType.INT8, TensorProto.INT16: DataType.INT16, TensorProto.INT32: DataType.INT32,
    TensorProto.INT64: DataType.INT64, TensorProto.UINT8: DataType.UINT8, TensorProto.UINT16: DataType.UINT16,
    TensorProto.UINT32: DataType.UINT32, TensorProto.UINT64: DataType.UINT64,
}  # fmt: skip
#: A NUL is refused, of which a test of its own tells.
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
DIMS = st.lists(st.one_of(st.integers(0, 2**40), st.sampled_from(["n", "batch"]), st.none()), max_size=5)


@given(kind=st.sampled_from(sorted(KINDS)), dims=DIMS, name=NAMES)
@settings(max_examples=60, deadline=None)
def test_names_types_and_shapes_are_those_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, kind: int, dims: list[Any], name: str
) -> None:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    save_graph(path, [("Identity", [name], [name + "y"])], {name: (kind, dims)}, {name + "y": (kind, dims)})
    found = graph_tensors(path)
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in dims)
    assert [(it.name, it.datatype, it.shape) for it in found.inputs] == [(name, KINDS[kind], shape)]
    assert [(it.name, it.datatype, it.shape) for it in found.outputs] == [(name + "y", KINDS[kind], shape)]
    assert found.batchable is (bool(shape) and shape[0] == -1)


@pytest.mark.parametrize("name", ["echo", "brain-extraction"])
def test_models_that_ship_read_as_their_sessions_do(name: str) -> None:
    path = Path("models") / name / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = graph_tensors(path)
    for ours, theirs in ((found.inputs, session.get_inputs()), (found.outputs, session.get_outputs())):
        assert [tensor.name for tensor in ours] == [tensor.name for tensor in theirs]
        assert [list(tensor.shape or ()) for tensor in ours] == [
            [size if isinstance(size, int) else -1 for size in tensor.shape] for tensor in theirs
        ]


def test_inputs_with_a_default_are_told_apart(tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.float32([2]), "scale")
    kind = (TensorProto.FLOAT, ["n"])
    path = save_graph(
        tmp_path / "1" / "model.onnx", [("Mul", ["x", "scale"], ["y"])],
        {"x": kind, "scale": (TensorProto.FLOAT, [1])}, {"y": kind}, [scale],
    )  # fmt: skip
    found = graph_tensors(path)
    assert [tensor.name for tensor in found.inputs] == ["x"]
    assert [tensor.name for tensor in found.defaulted] == ["scale"]
    model = onnx.load(path)
    model.ir_version = 3
    onnx.save(model, path)
    assert graph_tensors(path).defaulted == (), "nothing could be overridden then"


def test_a_shape_that_the_file_does_not_say_is_none_and_a_sequence_has_no_type(tmp_path: Path) -> None:
    unknown = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], "g", [unknown], [sequence])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    found = graph_tensors(tmp_path / "model.onnx")
    assert (found.inputs[0].datatype, found.inputs[0].shape) == (DataType.FP32, None)
    assert found.outputs[0].datatype is None
    assert not found.batchable


@pytest.mark.parametrize(
    "content", [b"", b"this is no graph", b"\x3a\xff\xff\xff\xff\x0f", b"\x08", b"\x3a\x02\x5a\x7f"]
)
def test_what_is_no_graph_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        graph_tensors(tmp_path / "model.onnx")
    assert caught.value.code == "model-unloadable"


@given(cut=st.integers(0, 71), flips=st.lists(st.tuples(st.integers(0, 71), st.integers(0, 255)), max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_damaged_file_is_read_or_refused_and_never_worse(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: list[tuple[int, int]]
) -> None:
    content = bytearray(Path("models/echo/1/model.onnx").read_bytes())
    for at, value in flips:
        content[at] = value
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    path.write_bytes(content[: len(content) - cut])
    # Whatever else it raised would end the test.
    with suppress(ModelError):
        graph_tensors(path)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = identity(tmp_path / "1" / "model.onnx", dims=["n"])
    assert graph_tensors(path).inputs[0].shape == (-1,)
    identity(path, dims=[7, 7, 7])
    assert graph_tensors(path).inputs[0].shape == (7, 7, 7)


def test_notes_are_the_metadata_and_the_operators_of_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(saying({"y": np.zeros(2, np.float32)}, metadata={"names": "{0: 'Küche'}"}))
    notes = graph_notes(path)
    assert notes.metadata == {"names": "{0: 'Küche'}"}
    assert notes.operators == {"Cast", "Identity", "ReduceMax", "Mul", "Add"}
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError) as refused:
        graph_notes(path)
    assert refused.value.code == "model-unloadable"
