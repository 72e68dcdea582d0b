"""Small graphs with known weights, as folders of models: for trials of providers and precisions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MANIFEST = "task: tensors\nlicence: Apache-2.0\n"


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,  # type: ignore[type-arg]
    *,
    opset: int = 17,
    external: bool = False,
) -> Path:
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "small", list(inputs), list(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return path


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def perceptron(path: Path, *, opset: int = 17, external: bool = False) -> Path:
    """Rows of 64 numbers to 10 scores, through 128."""
    random = np.random.default_rng(7)
    weights = {
        "w1": random.normal(0, 0.2, (64, 128)).astype(np.float32),
        "w2": random.normal(0, 0.2, (128, 10)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["scores"]),
    ]
    outputs = [floats("scores", "n", 10)]
    return save(path, nodes, [floats("x", "n", 64)], outputs, weights, opset=opset, external=external)


def convolution(path: Path) -> Path:
    """Pictures of one channel to one score per class of four."""
    random = np.random.default_rng(11)
    weights = {
        "k": random.normal(0, 0.3, (4, 1, 3, 3)).astype(np.float32),
        "b": random.normal(0, 0.3, (4,)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "k", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["scores"], name="flat"),
    ]
    return save(path, nodes, [floats("image", "n", 1, 16, 16)], [floats("scores", "n", 4)], weights)


def gelu(path: Path) -> Path:
    """y = x · Φ(x); `optimization.enable_gelu_approximation` computes it by a formula that is 2 % off at -2.3."""
    weights = {"root": np.array(np.sqrt(2), np.float32), "one": np.ones((), np.float32), "half": np.float32([0.5])}
    nodes = [
        helper.make_node("Div", ["x", "root"], ["a"]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]),
        helper.make_node("Mul", ["x", "c"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["y"]),
    ]
    return save(path, nodes, [floats("x", "n", 8)], [floats("y", "n", 8)], weights)


def model_folder(root: Path, name: str = "small", manifest: str = MANIFEST, *, external: bool = False) -> Path:
    """With the perceptron as its version 1."""
    perceptron(root / name / "1" / "model.onnx", external=external)
    (root / name / "model.yaml").write_text(manifest, "utf-8")
    return root / name


def slow_graph(path: Path, nodes: int = 400, size: int = 512) -> Path:
    """A chain of matrix products that takes seconds, with a place to stop between any two."""
    weights = np.full((size, size), 1.0 / size, np.float32)
    constant = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)
    names = ["x", *(f"h{i}" for i in range(nodes - 1)), "y"]
    chain = [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(nodes)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, size])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [size, size])
    graph = helper.make_graph(chain, "slow", [x], [y], [constant])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
