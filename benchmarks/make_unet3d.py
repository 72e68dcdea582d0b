"""Makes models of random weights for the benchmarks: a 3-D U-Net of 5.1 million parameters, and a lone convolution.

    python benchmarks/make_unet3d.py        (writes benchmarks/.cache/models, which git ignores)

The U-Net has four levels of 32, 64, 128 and 256 channels, two 3×3×3 convolutions each with InstanceNorm and
LeakyReLU, transposed convolutions upwards and skips by concatenation: nnU-Net's building blocks in MONAI's size.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

CACHE = Path(__file__).parent / ".cache" / "models"
CHANNELS = (32, 64, 128, 256)
CLASSES = 5


class Graph:
    """Collects nodes and weights; every layer returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(weight.dims)) for weight in self.weights)

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, *shape: int, scale: float) -> str:
        name = f"w{len(self.weights)}"
        values = self._random.normal(0, scale, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def convolution(self, x: str, inputs: int, outputs: int, size: int = 3) -> str:
        scale = (2 / (inputs * size**3)) ** 0.5
        kernel, bias = self.weight(outputs, inputs, size, size, size, scale=scale), self.weight(outputs, scale=0.01)
        return self.node("Conv", [x, kernel, bias], kernel_shape=[size] * 3, pads=[size // 2] * 6)

    def block(self, x: str, inputs: int, outputs: int) -> str:
        for channels in (inputs, outputs):
            x = self.convolution(x, channels, outputs)
            ones = f"w{len(self.weights)}"
            self.weights.append(numpy_helper.from_array(np.ones(outputs, np.float32), ones))
            x = self.node("InstanceNormalization", [x, ones, self.weight(outputs, scale=0.01)])
            x = self.node("LeakyRelu", [x], alpha=0.01)
        return x

    def upwards(self, x: str, inputs: int, outputs: int) -> str:
        kernel = self.weight(inputs, outputs, 2, 2, 2, scale=(1 / inputs) ** 0.5)
        return self.node("ConvTranspose", [x, kernel], kernel_shape=[2] * 3, strides=[2] * 3)

    def save(self, folder: Path, result: str, pipeline: dict[str, object], classes: int = CLASSES) -> None:
        self.node("Identity", [result])
        self.nodes[-1].output[0] = "scores"
        shapes: list[list[str | int | None]] = [["N", channels, "D", "H", "W"] for channels in (1, classes)]
        image, scores = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(("image", "scores"), shapes, strict=True)
        )
        graph = helper.make_graph(self.nodes, folder.name, [image], [scores], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        (folder / "1").mkdir(parents=True, exist_ok=True)
        onnx.save(model, folder / "1" / "model.onnx")
        labels = {k: f"label {k}" for k in range(1, classes)}
        manifest = {"task": "segmentation", "labels": labels, "pipeline": pipeline}
        (folder / "model.yaml").write_text(yaml.safe_dump(manifest), "utf-8")


def make_unet() -> Graph:
    graph = Graph()
    x, skips, inputs = "image", [], 1
    for level, channels in enumerate(CHANNELS):
        if level:
            x = graph.node("MaxPool", [x], kernel_shape=[2] * 3, strides=[2] * 3)
        x = graph.block(x, inputs, channels)
        skips.append(x)
        inputs = channels
    for channels, skip in zip(reversed(CHANNELS[:-1]), reversed(skips[:-1]), strict=True):
        up = graph.upwards(x, inputs, channels)
        # The first convolution halves what the concatenation doubled.
        x = graph.block(
            graph.convolution(graph.node("Concat", [up, skip], axis=1), 2 * channels, channels, 1), channels, channels
        )
        inputs = channels
    graph.save(CACHE / "unet3d", graph.convolution(x, inputs, CLASSES, 1), windows((1.0, 1.0, 1.5), overlap=0.25))
    return graph


def make_convolution(name: str = "convolution", classes: int = CLASSES, **changes: object) -> Graph:
    """`changes` are other fields of the pipeline."""
    graph = Graph()
    pipeline = windows((1.5, 1.5, 1.5), overlap=0.25) | changes
    graph.save(CACHE / name, graph.convolution("image", 1, classes), pipeline, classes)
    return graph


def windows(spacing_mm: tuple[float, float, float], overlap: float) -> dict[str, object]:
    return {
        "modality": "CT",
        "axes": "RAS",
        "grid": {"kind": "spacing", "spacing_mm": list(spacing_mm)},
        "intensity": {"method": "ct", "low": -160, "high": 240, "mean": 40, "std": 80},
        "run": {"mode": "windows", "shape": [96, 96, 96], "overlap": overlap},
        "scores": "logits",
        "decide": {"method": "argmax"},
    }


if __name__ == "__main__":
    print(f"unet3d: {make_unet().parameters:,} parameters")
    print(f"convolution: {make_convolution().parameters:,} parameters")
