"""A model repository as a user of Triton brings it: ONNX files, config.pbtxt, labels, and nothing of Fleet's."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

Dims = Sequence[int | str | None]
ADD_SUB = """\
# Triton's own first example, by another name.
name: "add-sub"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
"""
SCORES = """\
backend: 'onnxruntime'
max_batch_size: 4
input { name: "pixels" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } }
output { name: "scores" data_type: TYPE_FP32 dims: 4 label_filename: "classes.txt" }
dynamic_batching { }
"""
STRINGS = """\
backend: "onnxruntime"
max_batch_size: 0
input { name: "texts" data_type: TYPE_STRING dims: -1 }
output { name: "same" data_type: TYPE_STRING dims: -1 }
"""


def save_graph(
    path: Path,
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str]]],
    inputs: dict[str, tuple[int, Dims]],
    outputs: dict[str, tuple[int, Dims]],
    defaults: Sequence[onnx.TensorProto] = (),
) -> Path:
    """nodes: (operator, inputs, outputs); inputs and outputs: name -> (TensorProto's type, dimensions)."""
    graph = helper.make_graph(
        [helper.make_node(operator, list(taken), list(given)) for operator, taken, given in nodes],
        path.parent.name,
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        list(defaults),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def identity(path: Path, kind: int = TensorProto.FLOAT, dims: Dims = ("n",)) -> Path:
    """y = x."""
    return save_graph(path, [("Identity", ["x"], ["y"])], {"x": (kind, dims)}, {"y": (kind, dims)})


def add_sub(path: Path, batch: int | str = "batch") -> Path:
    """OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1; int32 [batch, 16]."""
    kind: tuple[int, Dims] = (TensorProto.INT32, [batch, 16])
    pair = ["INPUT0", "INPUT1"]
    nodes = [("Add", pair, ["OUTPUT0"]), ("Sub", pair, ["OUTPUT1"])]
    return save_graph(path, nodes, dict.fromkeys(pair, kind), {"OUTPUT0": kind, "OUTPUT1": kind})


def make_repository(root: Path) -> Path:
    """`add-sub` (batches), `scores` (labels, a reshape), `strings`, `half` (no config at all)."""
    add_sub(root / "add-sub" / "1" / "model.onnx")
    (root / "add-sub" / "config.pbtxt").write_text(ADD_SUB)
    kinds: tuple[int, Dims] = (TensorProto.FLOAT, ["n", 4])
    save_graph(
        root / "scores" / "1" / "model.onnx",
        [("Identity", ["pixels"], ["scores"])],
        {"pixels": kinds},
        {"scores": kinds},
    )
    (root / "scores" / "config.pbtxt").write_text(SCORES)
    (root / "scores" / "classes.txt").write_text("cat\ndog\n\nmoose\n")
    save_graph(
        root / "strings" / "1" / "model.onnx",
        [("Identity", ["texts"], ["same"])],
        {"texts": (TensorProto.STRING, ["n"])},
        {"same": (TensorProto.STRING, ["n"])},
    )
    (root / "strings" / "config.pbtxt").write_text(STRINGS)
    identity(root / "half" / "1" / "model.onnx", TensorProto.FLOAT16, ["n", 2])
    return root
