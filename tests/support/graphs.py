"""Small ONNX files for tests, made on the spot."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def scale_graph(factor: float = 2.0, *, size: int | None = None) -> bytes:
    """y = factor · x, float32 [n]; with `size` x is [size] and the factor a weight of that size."""
    shape = ["n"] if size is None else [size]
    weight = np.full([] if size is None else [size], factor, np.float32)
    return graph([helper.make_node("Mul", ["x", "w"], ["y"])], shape, {"w": weight})


def graph(nodes: list[Any], shape: list[Any], weights: dict[str, Any] | None = None, **more: Any) -> bytes:
    """A graph from x to y, both float32 of that shape."""
    return model(nodes, shape, weights, **more).SerializeToString()


def model(nodes: list[Any], shape: list[Any], weights: dict[str, Any] | None = None, **more: Any) -> Any:
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", OPSET), *more.pop("opsets", [])]
    return helper.make_model(made, opset_imports=opsets, ir_version=8, **more)


def with_external_data(folder: Path, name: str = "model.onnx", data: str = "model.onnx.data", size: int = 4096) -> Path:
    """y = 3 · x with the weights in a file beside the graph."""
    made = model([helper.make_node("Mul", ["x", "w"], ["y"])], [size], {"w": np.full([size], 3, np.float32)})
    path = folder / name
    onnx.save_model(made, str(path), save_as_external_data=True, location=data, size_threshold=0)
    return path


def pointing_to(location: str, *, offset: int = 0, length: int = 16) -> bytes:
    """A graph whose weights are said to lie in that file."""
    made = model([helper.make_node("Mul", ["x", "w"], ["y"])], [4], {"w": np.ones([4], np.float32)})
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": str(offset), "length": str(length)}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return made.SerializeToString()
