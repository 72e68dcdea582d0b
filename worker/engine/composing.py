"""One manifest from all that is said of a model: model.yaml, config.pbtxt, and the graph where both are silent.

config.pbtxt says what it says in Triton; model.yaml says the rest. Where both say the same thing they must agree.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fleet.errors import ModelError
from fleet.tensors import TASK_NAME
from worker.engine.graph_tensors import GraphTensors
from worker.engine.manifest import MANIFEST_NAME, Manifest, faults
from worker.triton.reading import Said
from worker.triton.schema import CONFIG_NAME

#: Triton's own default, for graphs that can be batched and configurations that say nothing of it.
AUTOMATIC_BATCH_SIZE = 4
#: Taken as a whole: half of one and half of the other would mean something that nobody said.
_WHOLE = frozenset({"versions", "warmup", "priorities", "onnx.providers"})
_BY_NAME = frozenset({"inputs", "outputs"})
_BARE: dict[str, Any] = {"task": TASK_NAME, "lane": "interactive"}


@dataclass(frozen=True)
class Composed:
    manifest: Manifest
    #: In words: what was ignored, and what was filled in.
    remarks: tuple[str, ...]


def composed(
    graph: Callable[[], GraphTensors], yaml: Manifest | None, said: Said | None, *, override: bool = False
) -> Composed:
    """The manifest of one version. `override`: the configuration stands above model.yaml.

    Raises ModelError `config-conflict` when the two files differ, `config-invalid` when the result makes no sense.
    """
    if said is None and yaml is not None:
        _check_batching(yaml, MANIFEST_NAME)
        return Composed(yaml, ())
    said = said or Said({})
    written = dict(_BARE) if yaml is None else yaml.model_dump(mode="json", exclude_unset=True)
    batching = {} if said.max_batch_size is None else {"max_batch_size": said.max_batch_size}
    fields = {**said.fields, "batching": {**said.fields.get("batching", {}), **batching}}
    conflicts: list[str] = []
    merged = _merged(written, fields, "", conflicts)
    remarks = [*said.remarks, *_complete(merged["batching"], said, graph())]
    size = merged["batching"]["max_batch_size"]
    tensors = {"inputs": _whole(said.inputs, size), "outputs": _whole(said.outputs, size)}
    merged = _merged(merged, {name: declared for name, declared in tensors.items() if declared}, "", conflicts)
    if conflicts and not override:
        raise ModelError("; ".join(conflicts), code="config-conflict", faults=conflicts)
    merged.setdefault("versions", {"latest": 1})
    try:
        manifest = Manifest.model_validate(merged)
    except ValidationError as error:
        raise ModelError(f"{CONFIG_NAME}: {faults(error)}", code="config-invalid") from error
    _check_batching(manifest, CONFIG_NAME)
    return Composed(manifest, tuple(remarks))


def _complete(batching: dict[str, Any], said: Said, graph: GraphTensors) -> list[str]:
    """Fills in the batch's size and whether requests are joined, as Triton does -> what was filled in, in words."""
    remarks = []
    if "max_batch_size" not in batching:
        batching["max_batch_size"] = AUTOMATIC_BATCH_SIZE if graph.batchable and not _says_it_whole(said, graph) else 0
        if batching["max_batch_size"]:
            remarks.append(
                f"max_batch_size {AUTOMATIC_BATCH_SIZE} is filled in: the first dimension of every tensor of the graph "
                "is free; say `max_batch_size: 0` if it is not the batch's"
            )
    elif batching["max_batch_size"] == 0 and graph.batchable:
        remarks.append("max_batch_size 0 is honoured: requests are not joined, though the graph could be batched")
    if "dynamic" not in batching and batching["max_batch_size"] > 1:
        batching["dynamic"] = True
        remarks.append("dynamic_batching is filled in: requests are joined when they wait anyway")
    return remarks


def _says_it_whole(said: Said, graph: GraphTensors) -> bool:
    """Whether the dims that are declared have room for all dimensions of the graph, the first one included."""
    ranks = {tensor.name: len(tensor.shape or ()) for tensor in (*graph.inputs, *graph.outputs)}
    declared = [tensor for tensor in (*said.inputs, *said.outputs) if tensor["name"] in ranks]
    return any(len(it.get("reshape", it["shape"])) == ranks[it["name"]] for it in declared)


def _whole(declared: Sequence[dict[str, Any]], max_batch_size: int) -> list[dict[str, Any]]:
    if not max_batch_size:
        return list(declared)
    return [
        {key: [-1, *value] if key in ("shape", "reshape") else value for key, value in tensor.items()}
        for tensor in declared
    ]


def _merged(yaml: dict[str, Any], config: dict[str, Any], above: str, conflicts: list[str]) -> dict[str, Any]:
    """Both, the configuration's word where they differ; that they do is put down in `conflicts`."""
    merged = dict(yaml)
    for name, value in config.items():
        path = f"{above}{name}"
        mine = yaml.get(name)
        if name not in yaml or mine == value:
            merged[name] = value
        elif path in _BY_NAME:
            merged[name] = _merged_by_name(mine, value, path, conflicts)
        elif isinstance(value, dict) and isinstance(mine, dict) and path not in _WHOLE:
            merged[name] = _merged(mine, value, f"{path}.", conflicts)
        else:
            merged[name] = value
            conflicts.append(
                f"{path}: {CONFIG_NAME} says {value!r} and {MANIFEST_NAME} says {mine!r}; let one of them say it"
            )
    return merged


def _merged_by_name(yaml: Any, config: Any, path: str, conflicts: list[str]) -> list[dict[str, Any]]:
    mine = {tensor["name"]: tensor for tensor in yaml}
    theirs = {tensor["name"]: tensor for tensor in config}
    if mine.keys() != theirs.keys():
        conflicts.append(
            f"{path}: {CONFIG_NAME} declares {', '.join(theirs)} and {MANIFEST_NAME} {', '.join(mine)}; "
            "let one of them say it"
        )
    return [_merged(mine.get(name, {}), tensor, f"{path}.{name}.", conflicts) for name, tensor in theirs.items()]


def _check_batching(manifest: Manifest, where: str) -> None:
    batching = manifest.batching
    wrong = None
    if batching.dynamic and not batching.max_batch_size:
        wrong = "requests cannot be joined without a max_batch_size of at least 1"
    elif too_large := [size for size in batching.preferred if size > batching.max_batch_size]:
        wrong = f"preferred batch sizes {too_large} are above max_batch_size {batching.max_batch_size}"
    if wrong:
        raise ModelError(f"{where}: {wrong}", code="config-invalid")
