"""Makes `1/model.onnx`: EfficientNet-Lite0 as a graph without weights, which lie in the publisher's own checkpoint.

    python make_graph.py efficientnet-lite0-57934424.pth 1/model.onnx        (needs onnx, not PyTorch)

Every initialiser points, by offset and length, into the checkpoint. Only the places of its tensors are read out of its
pickled part, by an unpickler that knows four names and calls nothing. The architecture is that of the paper's network
without squeeze-and-excitation, with ReLU6, and TensorFlow's "same" padding for 224 x 224 pixels made explicit.
"""

import collections
import math
import pickle
import struct
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

WEIGHTS = "efficientnet-lite0.bin"
#: (expansion, kernel, stride, output channels, repeats).
STAGES = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]


class Places(pickle.Unpickler):
    """Tensors become (storage, offset, shape, strides); everything else is refused."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in ("FloatStorage", "LongStorage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not expected here")

    def persistent_load(self, saved):
        _, kind, key, *_ = saved
        return key, kind


def places_of(path):
    """Name -> (shape, strides, byte at which its numbers begin)."""
    with path.open("rb") as file:
        for _ in range(3):
            Places(file).load()
        state, keys = Places(file).load(), Places(file).load()
        width = {storage[0]: 8 if storage[1] == "LongStorage" else 4 for storage, *_ in state.values()}
        begins, at = {}, file.tell()
        for key in keys:
            file.seek(at)
            (count,) = struct.unpack("<q", file.read(8))
            begins[key] = at + 8
            at += 8 + count * width[key]
    return {
        name: (tuple(shape), tuple(strides), begins[key] + 4 * offset)
        for name, ((key, _), offset, shape, strides) in state.items()
    }


class Graph:
    def __init__(self, places):
        self.places = places
        self.nodes = []
        self.initializers = []

    def weight(self, name):
        """The tensor as it lies in the file, which is TensorFlow's order of axes, and its axes put in order."""
        shape, strides, offset = self.places[name]
        axes = sorted(range(len(shape)), key=lambda axis: -strides[axis])
        lying = [shape[axis] for axis in axes]
        if [strides[axis] for axis in axes] != [math.prod(lying[place + 1 :]) for place in range(len(lying))]:
            raise ValueError(f"{name} does not lie in one piece")
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=lying, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", WEIGHTS), ("offset", offset), ("length", 4 * math.prod(shape))):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        order = [axes.index(axis) for axis in range(len(shape))]
        return name if order == sorted(order) else self.node("Transpose", [name], perm=order)

    def node(self, operator, inputs, **attributes):
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def conv(self, x, name, norm, size, *, kernel=1, stride=1, groups=1, relu=True):
        """Returns the output and its side in pixels."""
        out = -(-size // stride)
        missing = max((out - 1) * stride + kernel - size, 0)
        before, after = missing // 2, missing - missing // 2
        x = self.node(
            "Conv", [x, self.weight(f"{name}.weight")], kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[before, before, after, after], group=groups,
        )  # fmt: skip
        parts = [self.weight(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = self.node("BatchNormalization", [x, *parts], epsilon=1e-3)
        return (self.node("Clip", [x, "zero", "six"]) if relu else x), out

    def blocks(self, x, size):
        channels, number = 32, 0
        for expansion, kernel, first_stride, wanted, repeats in STAGES:
            for repeat in range(repeats):
                stride, before, name = (first_stride if repeat == 0 else 1), x, f"_blocks.{number}"
                wide = channels * expansion
                if expansion != 1:
                    x, _ = self.conv(x, f"{name}._expand_conv", f"{name}._bn0", size)
                x, size = self.conv(
                    x, f"{name}._depthwise_conv", f"{name}._bn1", size, kernel=kernel, stride=stride, groups=wide
                )
                x, _ = self.conv(x, f"{name}._project_conv", f"{name}._bn2", size, relu=False)
                if stride == 1 and channels == wanted:
                    x = self.node("Add", [x, before])
                channels, number = wanted, number + 1
        return x, size


def main(checkpoint, out):
    graph = Graph(places_of(checkpoint))
    x, size = graph.conv("pixel_values", "_conv_stem", "_bn0", 224, kernel=3, stride=2)
    x, size = graph.blocks(x, size)
    x, _ = graph.conv(x, "_conv_head", "_bn1", size)
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
    names = [graph.weight("_fc.weight"), graph.weight("_fc.bias")]
    graph.nodes.append(helper.make_node("Gemm", [x, *names], ["logits"], transB=1))
    bounds = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("zero", 0), ("six", 6))]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet-lite0",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, 224, 224])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])],
            [*graph.initializers, *bounds],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="onnx-fleet",
        ir_version=8,
    )
    onnx.save(model, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
