"""Graphs of networks that are not ours to ship, with weights of chance: what they cost does not depend on those."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: ViT-B/16: width, layers, heads, side of a patch, side of the picture, classes.
_WIDTH, _LAYERS, _HEADS, _PATCH, _SIDE, _CLASSES = 768, 12, 12, 16, 224, 1000


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._chance = np.random.default_rng(0)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        made = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [made], **attributes))
        return made

    def weight(self, *shape: int, spread: float | None = None) -> str:
        scale = 1 / np.sqrt(np.prod(shape[1:] or (1,))) if spread is None else spread
        return self.constant((self._chance.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def save(self, path: Path, picture: tuple[str, list[Any]], output: tuple[str, str, list[Any]]) -> None:
        last, name, shape = output
        self.nodes.append(helper.make_node("Identity", [last], [name]))
        given = helper.make_tensor_value_info(picture[0], TensorProto.FLOAT, picture[1])
        answer = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, path.parent.parent.name, [given], [answer], self.weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def save_vit(path: Path) -> None:
    """ViT-B/16 at 224 as transformers exports it: `pixel_values` -> `logits`, 86 million weights, 330 MB."""
    graph = _Graph()
    patches = graph.node(
        "Conv", "pixel_values", graph.weight(_WIDTH, 3, _PATCH, _PATCH), graph.weight(_WIDTH), strides=[_PATCH] * 2
    )
    rows = graph.node("Reshape", patches, graph.constant(np.array([0, _WIDTH, -1])))
    rows = graph.node("Transpose", rows, perm=[0, 2, 1])
    count = graph.node("Shape", rows, start=0, end=1)
    shape = graph.node("Concat", count, graph.constant(np.array([1, _WIDTH])), axis=0)
    first = graph.node("Expand", graph.weight(1, 1, _WIDTH), shape)
    state = graph.node("Concat", first, rows, axis=1)
    state = graph.node("Add", state, graph.weight(1, (_SIDE // _PATCH) ** 2 + 1, _WIDTH, spread=0.02))
    for _ in range(_LAYERS):
        state = graph.node("Add", state, _attention(graph, _normal(graph, state)))
        state = graph.node("Add", state, _perceptron(graph, _normal(graph, state)))
    first = graph.node("Gather", _normal(graph, state), graph.constant(np.array(0)), axis=1)
    logits = graph.node("Gemm", first, graph.weight(_CLASSES, _WIDTH), graph.weight(_CLASSES), transB=1)
    graph.save(path, ("pixel_values", ["pictures", 3, _SIDE, _SIDE]), (logits, "logits", ["pictures", _CLASSES]))


def _normal(graph: _Graph, state: str) -> str:
    ones, zeros = np.ones(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)
    return graph.node("LayerNormalization", state, graph.constant(ones), graph.constant(zeros), epsilon=1e-12)


def _linear(graph: _Graph, state: str, width: int, wider: int) -> str:
    made = graph.node("MatMul", state, graph.weight(width, wider, spread=1 / np.sqrt(width)))
    return graph.node("Add", made, graph.weight(wider, spread=0.02))


def _attention(graph: _Graph, state: str) -> str:
    split = graph.constant(np.array([0, 0, _HEADS, _WIDTH // _HEADS]))
    query, key, value = (graph.node("Reshape", _linear(graph, state, _WIDTH, _WIDTH), split) for _ in range(3))
    query = graph.node("Transpose", query, perm=[0, 2, 1, 3])
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 2, 3, 1]))
    scores = graph.node("Mul", scores, graph.constant(np.float32(1 / np.sqrt(_WIDTH // _HEADS))))
    mixed = graph.node(
        "MatMul", graph.node("Softmax", scores, axis=-1), graph.node("Transpose", value, perm=[0, 2, 1, 3])
    )
    joined = graph.node(
        "Reshape", graph.node("Transpose", mixed, perm=[0, 2, 1, 3]), graph.constant(np.array([0, 0, _WIDTH]))
    )
    return _linear(graph, joined, _WIDTH, _WIDTH)


def _perceptron(graph: _Graph, state: str) -> str:
    wide = _linear(graph, state, _WIDTH, 4 * _WIDTH)
    half = graph.node("Mul", wide, graph.constant(np.float32(0.5)))
    erf = graph.node("Erf", graph.node("Mul", wide, graph.constant(np.float32(np.sqrt(0.5)))))
    return _linear(
        graph, graph.node("Mul", half, graph.node("Add", erf, graph.constant(np.float32(1)))), 4 * _WIDTH, _WIDTH
    )


def save_stand_in_detector(path: Path) -> None:
    """Not YOLO11n: plain convolutions of about its 6.5 billion operations, fed at 640, with the form of its answer.

    For machines without ultralytics; figures of it are called so.
    """
    graph = _Graph()
    state, channels = "images", 3
    levels = []
    for wider, repeats in ((16, 0), (32, 1), (64, 2), (128, 3), (256, 3)):
        state, channels = _convolution(graph, state, channels, wider, stride=2), wider
        for _ in range(repeats):
            state = _convolution(graph, state, channels, channels)
        levels.append((state, channels))
    answers = []
    for (level, width), side in zip(levels[-3:], (80, 40, 20), strict=True):
        hidden = _convolution(graph, level, width, 64)
        head = graph.node("Conv", hidden, graph.weight(84, 64, 1, 1))
        answers.append(graph.node("Reshape", head, graph.constant(np.array([0, 84, side * side]))))
    rows = graph.node("Concat", *answers, axis=2)
    boxes = graph.node("Slice", rows, *(graph.constant(np.array([at])) for at in (0, 4, 1)))
    scores = graph.node("Slice", rows, *(graph.constant(np.array([at])) for at in (4, 84, 1)))
    scores = graph.node("Sigmoid", graph.node("Sub", scores, graph.constant(np.float32(4))))
    rows = graph.node("Concat", graph.node("Abs", boxes), scores, axis=1)
    graph.save(path, ("images", [1, 3, 640, 640]), (rows, "output0", [1, 84, 8400]))


def _convolution(graph: _Graph, state: str, channels: int, wider: int, stride: int = 1) -> str:
    made = graph.node(
        "Conv", state, graph.weight(wider, channels, 3, 3), graph.weight(wider), strides=[stride] * 2, pads=[1] * 4
    )
    return graph.node("Mul", made, graph.node("Sigmoid", made))
