"""Small classifiers whose answer can be reckoned by hand: each class is the mean of one colour."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from fleet.settings import CPU_PROVIDER
from worker.contract import Model
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.stop import StopToken
from worker.tasks import find_tasks

MODEL = "tiny-classifier"
SIDE = 16
#: Of pictures as bytes: what is fed are shares of 255, stretched to 16 × 16.
PREPROCESS: Mapping[str, Any] = {"resize": "stretch", "size": SIDE, "kernel": "bilinear"}
NAMES = {0: "red", 1: "green", 2: "blue"}
_OPTIONS: Mapping[str, Any] = {
    "Softmax": {"axis": 1},
    "LogSoftmax": {"axis": 1},
    "ReduceL1": {"axes": [1], "keepdims": 1},
}
_TYPES = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16, np.uint8: TensorProto.UINT8}


def colours(
    ending: tuple[str, ...] = (),
    *,
    dtype: Any = np.float32,
    colours_last: bool = False,
    batch: Any = "batch",
    gain: float = 1.0,
    classes: int = 3,
    outputs: tuple[str, ...] = ("logits",),
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """A graph from pixel_values to the mean of each colour times `gain`, and then through the operators `ending`."""
    shape = [batch, SIDE, SIDE, 3] if colours_last else [batch, 3, SIDE, SIDE]
    nodes = [
        helper.make_node("Cast", ["pixel_values"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["means"], axes=[1, 2] if colours_last else [2, 3], keepdims=0),
        helper.make_node("Slice", ["means", "begin", "end", "axis"], ["some"]),
        helper.make_node("Mul", ["some", "gain"], ["scaled"]),
    ]
    last = "scaled"
    for number, operator in enumerate(ending):
        made = "exponents" if operator == "Exp" else f"after-{number}"
        # By the sum of what Exp gave.
        inputs = ["exponents", last] if operator == "Div" else [last]
        nodes.append(helper.make_node(operator, inputs, [made], **_OPTIONS.get(operator, {})))
        last = made
    nodes += [helper.make_node("Identity", [last], [name]) for name in outputs]
    weights = {"begin": np.array([0]), "end": np.array([classes]), "axis": np.array([1]), "gain": np.float32(gain)}
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info("pixel_values", _TYPES[dtype], shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, classes]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {name: str(value) for name, value in (metadata or {}).items()})
    return bytes(model.SerializeToString())


def make_model(
    repository: Path, graph: bytes, *, files: Mapping[str, str] | None = None, name: str = MODEL, **manifest: Any
) -> Path:
    """The model's folder. `files` lie beside the versions; `manifest` are fields of model.yaml."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(graph)
    for path, content in (files or {}).items():
        (folder / path).write_text(content, "utf-8")
    said: dict[str, Any] = {"task": "image-classification", "lane": "interactive", "device": "any"}
    said |= {"pipeline": {"preprocess": dict(PREPROCESS)}, "labels": NAMES} | manifest
    (folder / "model.yaml").write_text(yaml.safe_dump(said), "utf-8")
    return folder


def loaded(folder: Path) -> Model:
    version = read_versions(folder, find_tasks())[0]
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
    onnx.checker.check_model(str(version.graph))
    return LoadedModel(version, Session(version.graph, setup), setup).for_run(StopToken())
