"""Detection models whose answer is known: graphs that say what they are told to, whatever picture they are given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from fleet.settings import CPU_PROVIDER
from worker.contract import Array, Model
from worker.detection.detector import Detector
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.stop import StopToken
from worker.tasks import find_tasks

MODEL = "tiny-detector"
#: (width, height) of the inputs: 64 + 16 + 4 places of strides 8, 16 and 32.
SIZE = (64, 64)
PLACES = 84
Shape = list[Any]
_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64,
          np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.float16): TensorProto.FLOAT16}  # fmt: skip


def saying(
    answers: Mapping[str, Array],
    *,
    image: tuple[str, Shape] = ("images", [1, 3, 64, 64]),
    dtype: Any = np.float32,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Shape] | None = None,
    operators: tuple[str, ...] = (),
    shapes: Mapping[str, Shape] | None = None,
) -> bytes:
    """A graph from a picture to these answers.

    extra: inputs of int64 besides. shapes: what the file says of outputs, in place of the truth. operators: GridSample
    for a graph that is known by it, or Fixed for one that fails on pictures of any other size than 7 × 7.
    """
    inputs = [helper.make_tensor_value_info(image[0], _TYPES[np.dtype(dtype)], image[1])]
    inputs += [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in (extra or {}).items()]
    nodes, weights = [helper.make_node("Cast", [image[0]], ["picture"], to=TensorProto.FLOAT)], {}
    if "GridSample" in operators:
        weights["grid"] = np.zeros((1, 1, 1, 2), np.float32)
        nodes.append(helper.make_node("GridSample", ["picture", "grid"], ["sampled"]))
    elif "Fixed" in operators:
        weights["odd"] = np.zeros((1, 3, 7, 7), np.float32)
        nodes.append(helper.make_node("Add", ["picture", "odd"], ["sampled"]))
    else:
        nodes.append(helper.make_node("Identity", ["picture"], ["sampled"]))
    # The picture has its part in each answer: none at all.
    nodes.append(helper.make_node("ReduceMax", ["sampled"], ["most"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["most", "nothing"], ["none"]))
    weights["nothing"] = np.zeros((), np.float32)
    outputs = []
    for name, value in answers.items():
        weights[f"{name}-said"] = value
        nodes.append(helper.make_node("Cast", ["none"], [f"{name}-none"], to=_TYPES[value.dtype]))
        nodes.append(helper.make_node("Add", [f"{name}-said", f"{name}-none"], [name]))
        shape = (shapes or {}).get(name, list(value.shape))
        outputs.append(helper.make_tensor_value_info(name, _TYPES[value.dtype], shape))
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    made = helper.make_graph(nodes, MODEL, inputs, outputs, initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {name: str(value) for name, value in (metadata or {}).items()})
    return model.SerializeToString()


def ultralytics_notes(**more: Any) -> dict[str, Any]:
    """What their exports carry."""
    return {"task": "detect", "stride": 32, "names": {0: "cat", 1: "dog", 2: "bird"}, "imgsz": [64, 64]} | more


def boxes_at(rows: Mapping[int, tuple[Any, ...]], places: int, columns: int) -> Array:
    """float32 [1, places, columns], zeros but for these rows."""
    made = np.zeros((1, places, columns), np.float32)
    for place, values in rows.items():
        made[0, place, : len(values)] = values
    return made


def make_model(repository: Path, graph: bytes, *, files: Mapping[str, str] | None = None, **manifest: Any) -> Path:
    """The model's folder. `files` lie beside the versions; `manifest` are fields of model.yaml."""
    folder = repository / MODEL
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(graph)
    for name, content in (files or {}).items():
        (folder / name).write_text(content, "utf-8")
    said = {"task": "object-detection", "lane": "interactive", "device": "any"} | manifest
    (folder / "model.yaml").write_text(yaml.safe_dump(said), "utf-8")
    return folder


def loaded(folder: Path) -> Model:
    version = read_versions(folder, find_tasks())[0]
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
    onnx.checker.check_model(str(version.graph))
    return LoadedModel(version, Session(version.graph, setup), setup).for_run(StopToken())


def detector(repository: Path, graph: bytes, **more: Any) -> tuple[Detector, Model]:
    """Raises as `Detector`."""
    model = loaded(make_model(repository, graph, **more))
    return Detector(model), model
