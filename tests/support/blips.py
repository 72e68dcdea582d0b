"""Models that answer questions: the one that ships, exported in other ways, and one that is a table of words."""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fleet.settings import CPU_PROVIDER
from tests.support.ort_model import RecordedProgress
from tests.support.small_graphs import floats, save
from worker.contract import Array, Model, Picture
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import SessionSetup
from worker.media.items import encode_items
from worker.pictures.items import Item, Pictures
from worker.stop import StopToken
from worker.tasks import find_tasks
from worker.tasks.visual_qa import TASK

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "shapes-vqa"
SAMPLES: list[dict[str, Any]] = json.loads((SHIPPED / "example" / "samples.json").read_text("utf-8"))
#: Of the graphs, the six of them without ".onnx".
ANSWERS, CAPTIONS = ("text_decoder", "text_decoder_with_past"), ("caption_decoder", "caption_decoder_with_past")
WORDS, START, STOP = 12, 2, 1


def loaded(folder: Path, stop: StopToken | None = None) -> Model:
    version = read_versions(folder, find_tasks())[0]
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
    return LoadedModel.opened(version, setup).for_run(stop or StopToken())


def picture(name: str) -> Array:
    with Image.open(SHIPPED / "example" / name) as image:
        return np.asarray(image.convert("RGB"))


def pictures(*arrays: Array, many: bool | None = None) -> Pictures:
    items = [Item(f"{number}.png", partial(_given, array)) for number, array in enumerate(arrays)]
    return Pictures(items, many=len(items) > 1 if many is None else many)


def _given(array: Array, admit: object, check: object) -> Picture:
    return Picture(array)


def ask(model: Model, *arrays: Array, many: bool | None = None, **params: Any) -> dict[str, Any]:
    """The job's result, as the record would hold it."""
    media = pictures(*(arrays or [picture("0000.png")]), many=many)
    outcome = TASK.run(media, TASK.Params(**params), model, RecordedProgress())
    return encode_items(outcome, Path("/nowhere")).result


def exported(root: Path, *graphs: str, pipeline: Mapping[str, Any] | None = None, **manifest: Any) -> Path:
    """A copy of the shipped model with these graphs only; nothing is said of which does what."""
    folder = root / "shapes"
    shutil.copytree(
        SHIPPED / "1", folder / "1", ignore=lambda _, names: [name for name in names if _left(name, graphs)]
    )
    said = {"task": "visual-qa", "pipeline": dict(pipeline or {})} | manifest
    (folder / "model.yaml").write_text(yaml.safe_dump(said), "utf-8")
    return folder


def _left(name: str, graphs: tuple[str, ...]) -> bool:
    return name.endswith(".onnx") and name.removesuffix(".onnx") not in graphs


def changed(folder: Path, graph: str, change: Callable[[Any], None], to: str | None = None) -> None:
    """Rewrites one of the graphs; `change` is given its onnx.ModelProto."""
    path = folder / "1" / f"{graph}.onnx"
    made = onnx.load(path)
    change(made)
    path.unlink()
    onnx.save(made, folder / "1" / f"{to or graph}.onnx")


def renamed(made: Any, names: Callable[[str], str]) -> None:
    """Inputs and outputs under other names."""
    to = {value.name: names(value.name) for value in (*made.graph.input, *made.graph.output)}
    for value in (*made.graph.input, *made.graph.output):
        value.name = to[value.name]
    for node in made.graph.node:
        node.input[:] = [to.get(name, name) for name in node.input]
        node.output[:] = [to.get(name, name) for name in node.output]


def without_mask(made: Any, mask: str, states: str) -> None:
    """The input `mask` is no more: it is made of ones inside, as long as `states`."""
    kept = [value for value in made.graph.input if value.name != mask]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    nodes = [
        helper.make_node("Shape", [states], ["states_shape"], start=0, end=2),
        helper.make_node(
            "ConstantOfShape", ["states_shape"], [mask], value=numpy_helper.from_array(np.ones(1, np.int64))
        ),
    ]
    for node in reversed(nodes):
        made.graph.node.insert(0, node)


def merged(folder: Path, first: str, further: str, to: str = "decoder_model_merged") -> None:
    """Both decoders in one file, as optimum makes it: an If on `use_cache_branch`."""
    begin, go_on = (onnx.load(folder / "1" / f"{name}.onnx") for name in (first, further))
    outputs = [value.name for value in begin.graph.output]
    branches = {}
    for name, made in (("begin", begin), ("go_on", go_on)):
        nodes, tensors = _prefixed(made, f"{name}.")
        given = {value.name for value in made.graph.output}
        for output in outputs:
            source = f"{name}.{output}" if output in given else output.replace("present", "past_key_values")
            nodes.append(helper.make_node("Identity", [source], [f"{name}.out.{output}"]))
        results = [helper.make_tensor_value_info(f"{name}.out.{output}", TensorProto.FLOAT, None) for output in outputs]
        branches[name] = helper.make_graph(nodes, name, [], results, tensors)
    choose = helper.make_node(
        "If", ["use_cache_branch"], outputs, then_branch=branches["go_on"], else_branch=branches["begin"]
    )
    own = {value.name: value for made in (begin, go_on) for value in made.graph.input}
    branch = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    graph = helper.make_graph([choose], "merged", [*own.values(), branch], begin.graph.output)
    onnx.save(
        helper.make_model(graph, opset_imports=begin.opset_import, ir_version=begin.ir_version),
        folder / "1" / f"{to}.onnx",
    )
    for name in (first, further):
        (folder / "1" / f"{name}.onnx").unlink()


def _prefixed(made: Any, prefix: str) -> tuple[list[Any], list[Any]]:
    """Nodes and weights under names of their own; the graph's inputs keep theirs."""
    own = {value.name for value in made.graph.input} | {""}
    for node in made.graph.node:
        node.input[:] = [name if name in own else prefix + name for name in node.input]
        node.output[:] = [prefix + name for name in node.output]
        node.name = prefix + node.name
    for tensor in made.graph.initializer:
        tensor.name = prefix + tensor.name
    return list(made.graph.node), list(made.graph.initializer)


def table_of_words(root: Path, logits: Array, generation: Mapping[str, Any]) -> Path:
    """A model whose captions follow a table: float32 [12, 12], the logits of the word behind each word."""
    folder = root / "table"
    save(
        folder / "1" / "see.onnx",
        [
            helper.make_node("ReduceMean", ["pixel_values"], ["means"], axes=[3], keepdims=0),
            helper.make_node("Transpose", ["means"], ["image_embeds"], perm=[0, 2, 1]),
        ],
        [floats("pixel_values", "n", 3, 8, 8)],
        [floats("image_embeds", "n", 8, 3)],
    )
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])
    save(
        folder / "1" / "say.onnx",
        [
            helper.make_node("Gather", ["table", "input_ids"], ["following"]),
            helper.make_node("ReduceSum", ["encoder_hidden_states", "axes"], ["seen"], keepdims=1),
            helper.make_node("Mul", ["seen", "nothing"], ["unseen"]),
            helper.make_node("Add", ["following", "unseen"], ["logits"]),
        ],
        [ids, floats("encoder_hidden_states", "n", "s", 3)],
        [floats("logits", "n", "t", WORDS)],
        {"table": logits, "axes": np.array([1, 2]), "nothing": np.zeros(1, np.float32)},
    )
    names = ["[PAD]", "[SEP]", "[DEC]", *"abcdefghi"]
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": n, "content": name, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False}
            for n, name in enumerate(names[:3])
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {name: n for n, name in enumerate(names)}, "unk_token": "[PAD]"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation), "utf-8")
    said = {"task": "visual-qa", "pipeline": {"preprocess": {"resize": "stretch", "size": 8}}}
    (folder / "model.yaml").write_text(yaml.safe_dump(said), "utf-8")
    return folder
