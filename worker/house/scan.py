"""A graph and the files around it, judged as data: nothing of them is run, and nothing leads out of their folder.

Runs in the house's child process (`child`): the graph's file is parsed here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from pydantic import TypeAdapter, ValidationError

from fleet.errors import InputTooLarge, ModelError, UnsupportedMedia
from fleet.model_source import InnerPath
from worker.house.refused import DATA_SUFFIX, REFUSED_SUFFIXES, kind_of
from worker.house.unpack import MAX_FILES

_PATH: TypeAdapter[str] = TypeAdapter(InnerPath)
#: What a stock ONNX Runtime brings along.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_VENDOR = "com.microsoft"
#: Of its domains those of training and of libraries that have to be loaded besides.
_OTHER_LIBRARIES = frozenset({"com.microsoft.extensions"})
#: Operators that call Python, or load an engine that somebody else has compiled.
_REFUSED_OPERATORS = frozenset({"PyOp", "PythonOp", "PythonOpGrad", "EPContext"})
#: protobuf reads no more.
_MAX_GRAPH_BYTES = 2**31 - 1
_HEAD_BYTES = 64


@dataclass
class GraphFacts:
    """What a scan has found in a graph."""

    ir_version: int
    opset: dict[str, int]
    nodes: int
    #: Files of external data, relative to the graph's folder, and the end of what is read of each.
    data: dict[str, int] = field(default_factory=dict)


def scan_graph(path: Path) -> GraphFacts:
    """Raises ModelError `graph-unreadable`, `custom-operator` or `external-data-invalid`."""
    model = _parsed(path)
    own = {(function.domain, function.name) for function in model.functions}
    facts = GraphFacts(model.ir_version, {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}, 0)
    if len(model.training_info):
        raise ModelError("the graph brings training along: export it for inference", code="custom-operator")
    nodes = [model.graph.node, *(function.node for function in model.functions)]
    tensors = _Tensors(facts)
    tensors.of_graph(model.graph)
    while nodes:
        for node in nodes.pop():
            facts.nodes += 1
            _judge(node, own)
            for attribute in node.attribute:
                tensors.of_attribute(attribute)
                for graph in (attribute.g, *attribute.graphs):
                    tensors.of_graph(graph)
                    nodes.append(graph.node)
    return facts


def references(path: Path) -> list[str]:
    """Files of external data that the graph names, relative to its folder."""
    return sorted(scan_graph(path).data)


def scan_folder(folder: Path, max_bytes: int) -> dict[str, Any]:
    """Everything in a model's folder. Returns facts for the report.

    Raises what `scan_graph` raises, UnsupportedMedia `refused-file`, and InputTooLarge.
    """
    files = sorted(file for file in folder.rglob("*") if not file.is_dir())
    if len(files) > MAX_FILES:
        raise InputTooLarge(f"the model has more than {MAX_FILES} files", code="too-many-files", limit=MAX_FILES)
    total = sum(file.lstat().st_size for file in files)
    if total > max_bytes:
        raise InputTooLarge(
            f"the model has {total:,} bytes, and {max_bytes:,} are allowed: see MODEL_MAX_BYTES",
            code="model-too-large",
            limit=max_bytes,
        )
    graphs: dict[str, Any] = {}
    data: set[Path] = set()
    for file in files:
        if file.suffix == ".onnx":
            facts = scan_graph(file)
            data |= {_external(file, name, end) for name, end in facts.data.items()}
            graphs[file.relative_to(folder).as_posix()] = {
                "ir_version": facts.ir_version,
                "opset": facts.opset,
                "nodes": facts.nodes,
            }
    for file in files:
        _judge_file(file, file.relative_to(folder), is_data=file in data)
    return {"files": len(files), "bytes": total, "graphs": graphs}


def _parsed(path: Path) -> Any:
    size = path.stat().st_size
    if size > _MAX_GRAPH_BYTES:
        raise ModelError(
            f"{path.name} has {size:,} bytes, and protobuf reads up to 2 GiB: keep the weights as external data",
            code="graph-unreadable",
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path.name} is not an ONNX file, or it is damaged", code="graph-unreadable") from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"{path.name} is not an ONNX file: it holds no graph", code="graph-unreadable")
    return model


def _judge(node: Any, own: set[tuple[str, str]]) -> None:
    domain, kind = node.domain, node.op_type
    if (domain, kind) in own:
        return
    vendor = domain == _VENDOR or domain.startswith((f"{_VENDOR}.", "com.ms."))
    known = domain in _DOMAINS or (vendor and domain not in _OTHER_LIBRARIES)
    if not known or kind in _REFUSED_OPERATORS or "training" in domain:
        raise ModelError(
            f"the node {node.name!r} is the operator {kind} of {domain or 'ai.onnx'}, which needs a library besides "
            "ONNX Runtime: export the model with standard operators, or bring it as a function of the model",
            code="custom-operator",
            operator=kind,
            domain=domain,
        )


class _Tensors:
    """Goes through all tensors that a graph holds, and notes what lies outside of its file."""

    def __init__(self, facts: GraphFacts) -> None:
        self._facts = facts

    def of_graph(self, graph: Any) -> None:
        for tensor in graph.initializer:
            self._note(tensor)
        for sparse in graph.sparse_initializer:
            self._of_sparse(sparse)

    def of_attribute(self, attribute: Any) -> None:
        for tensor in (attribute.t, *attribute.tensors):
            self._note(tensor)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            self._of_sparse(sparse)

    def _of_sparse(self, sparse: Any) -> None:
        self._note(sparse.values)
        self._note(sparse.indices)

    def _note(self, tensor: Any) -> None:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return
        told = {entry.key: entry.value for entry in tensor.external_data}
        try:
            name = _PATH.validate_python(told["location"].removeprefix("./"))
            begin, length = int(told.get("offset") or 0), int(told.get("length") or 0)
            if begin < 0 or length < 0:
                raise ValueError
        except (KeyError, ValueError, ValidationError) as error:
            raise ModelError(
                f"the weights of {tensor.name!r} are said to lie in {told.get('location', '')[:200]!r}, which is no "
                "place in the model's folder",
                code="external-data-invalid",
            ) from error
        self._facts.data[name] = max(self._facts.data.get(name, 0), begin + length)


def _external(graph: Path, name: str, end: int) -> Path:
    file = graph.parent / name
    if file.is_symlink() or not file.is_file():
        raise ModelError(
            f"{graph.name} keeps weights in {name}, which did not come with it", code="external-data-invalid", file=name
        )
    size = file.stat().st_size
    if end > size:
        raise ModelError(
            f"{graph.name} reads {end:,} bytes of {name}, which has {size:,}: it was cut off, or belongs to another "
            "export",
            code="external-data-invalid",
            file=name,
        )
    return file


def _judge_file(file: Path, inner: Path, *, is_data: bool) -> None:
    kind = None
    if file.is_symlink() or not file.is_file():
        kind = "a link or a device"
    elif is_data:
        return
    elif file.suffix.lower() in REFUSED_SUFFIXES or PurePosixPath(inner).name.lower().endswith(".so.1"):
        kind = f"a file of the kind {file.suffix}"
    elif file.suffix.lower() == DATA_SUFFIX and "warmup" not in inner.parts and "example" not in inner.parts:
        kind = "no data that the graph names, so most likely a pickled checkpoint"
    elif "example" not in inner.parts:
        with file.open("rb") as content:
            kind = kind_of(content.read(_HEAD_BYTES))
    if kind is not None:
        raise UnsupportedMedia(
            f"{inner.as_posix()} is {kind}: models are graphs, weights and text; leave it out",
            code="refused-file",
            file=inner.as_posix(),
        )


def walk(folder: Path) -> Iterator[Path]:
    """The files of a folder, relative to it, in order."""
    return (file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file())
