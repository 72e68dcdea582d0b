"""A detection model that can be reckoned with: it finds the one bright thing of whatever it is shown."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

#: Of its input, in pixels.
SIDE = 64


def bright_thing(*, white: int = 0) -> bytes:
    """The box around all pixels brighter than a half, as sure as the brightest is bright; rows are a free batch.

    It is of class 0; where the brightest is white, of class `white`.
    """
    nodes = [
        helper.make_node("Greater", ["images", "half"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["bright"], to=TensorProto.FLOAT),
    ]
    for name, axes, along in (("x", [1, 2], "across"), ("y", [1, 3], "across")):
        nodes += [
            helper.make_node("ReduceMax", ["bright"], [f"{name}s"], axes=axes, keepdims=0),
            helper.make_node("Mul", [f"{name}s", along], [f"{name}_ends"]),
            helper.make_node("Mul", [f"{name}s", "back"], [f"{name}_begins"]),
            helper.make_node("ReduceMax", [f"{name}_ends"], [f"{name}2"], axes=[1], keepdims=1),
            helper.make_node("ReduceMax", [f"{name}_begins"], [f"{name}_free"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["side", f"{name}_free"], [f"{name}1"]),
        ]
    nodes += [
        helper.make_node("ReduceMax", ["images"], ["most"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["most"], ["score"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["score", "white"], ["class"]),
        helper.make_node("Concat", ["x1", "y1", "x2", "y2", "score", "class"], ["row"], axis=1),
        helper.make_node("Unsqueeze", ["row", "one"], ["output0"]),
    ]
    constants = {
        "half": np.float32(0.5), "side": np.float32(SIDE), "white": np.float32(white), "one": np.array([1], np.int64),
        "across": np.arange(1, SIDE + 1, dtype=np.float32), "back": np.arange(SIDE, 0, -1, dtype=np.float32),
    }  # fmt: skip
    made = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 1, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
