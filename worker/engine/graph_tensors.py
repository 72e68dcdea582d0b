"""The tensors of an ONNX file, read without its weights: what cards and configurations are filled from.

Walks the file's protobuf fields and passes over the large ones, so that a file of gigabytes takes milliseconds and no
memory. Field numbers are those of onnx.proto3.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fleet.errors import ModelError
from fleet.tensors import DataType
from worker.contract import GraphNotes

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_MODEL_IR, _MODEL_GRAPH, _MODEL_METADATA = 1, 7, 14
_GRAPH_NODE, _NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _ENTRY_KEY, _ENTRY_VALUE = 1, 1, 2, 4, 1, 2
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 5, 11, 12, 15
_TENSOR_NAME, _SPARSE_VALUES = 8, 1
_INFO_NAME, _INFO_TYPE, _TYPE_TENSOR = 1, 2, 1
_TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = 1, 2, 1, 1
#: Since this version a default of a graph's input can be overridden.
_OVERRIDABLE_SINCE = 4
_DATATYPES = {
    1: DataType.FP32, 2: DataType.UINT8, 3: DataType.INT8, 4: DataType.UINT16, 5: DataType.INT16,
    6: DataType.INT32, 7: DataType.INT64, 8: DataType.BYTES, 9: DataType.BOOL, 10: DataType.FP16,
    11: DataType.FP64, 12: DataType.UINT32, 13: DataType.UINT64, 16: DataType.BF16,
}  # fmt: skip
#: They move numbers, or write them in another type.
_CHANGELESS = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
Field = tuple[int, int, int, int]


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of a graph; -1 in `shape` is a free dimension."""

    name: str
    #: None for what no request can hold: a sequence, a map, a type of eight bits or of complex numbers.
    datatype: DataType | None
    #: None where the file says nothing of it.
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class GraphTensors:
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    #: Inputs that have a default in the graph: a request may leave them out.
    defaulted: tuple[GraphTensor, ...] = ()

    @property
    def batchable(self) -> bool:
        """Whether the first dimension of every input and output is free."""
        tensors = (*self.inputs, *self.outputs)
        return bool(self.inputs) and all(tensor.shape and tensor.shape[0] == -1 for tensor in tensors)


def graph_tensors(path: Path) -> GraphTensors:
    """Raises ModelError `model-unloadable` for what is no ONNX file. Read once per state of the file."""
    try:
        state = path.stat()
        return _graph_tensors(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}", code="model-unloadable") from error


@lru_cache(maxsize=4096)
def _graph_tensors(path: Path, changed_ns: int, size: int) -> GraphTensors:
    if size == 0:
        raise _no_graph(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _read(content)
        except (ValueError, IndexError) as error:
            raise _no_graph(path) from error


def graph_notes(path: Path) -> GraphNotes:
    """What else the file says. Raises as `graph_tensors`."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _noted(content)
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}", code="model-unloadable") from error
    except (ValueError, IndexError) as error:
        raise _no_graph(path) from error


def _noted(content: mmap.mmap) -> GraphNotes:
    metadata, operators = {}, set()
    for start, end in _parts(content, 0, len(content), _MODEL_METADATA):
        metadata[_text(content, start, end, _ENTRY_KEY)] = _text(content, start, end, _ENTRY_VALUE)
    endings = {}
    for graph in _parts(content, 0, len(content), _MODEL_GRAPH):
        made_by = {}
        for start, end in _parts(content, *graph, _GRAPH_NODE):
            operator = _text(content, start, end, _NODE_OPERATOR)
            operators.add(operator)
            inputs = _parts(content, start, end, _NODE_INPUT)
            first = content[inputs[0][0] : inputs[0][1]] if inputs else b""
            for output in _parts(content, start, end, _NODE_OUTPUT):
                made_by[content[output[0] : output[1]]] = (operator, first)
        for start, end in _parts(content, *graph, _GRAPH_OUTPUT):
            name = _text(content, start, end, _INFO_NAME)
            endings[name] = _ending(name.encode(), made_by)
    return GraphNotes(metadata, frozenset(operators), endings)


def _ending(tensor: bytes, made_by: Mapping[bytes, tuple[str, bytes]]) -> str:
    """The operator that made its numbers; empty for an input that is passed on."""
    for _ in range(len(made_by) + 1):
        operator, tensor = made_by.get(tensor, ("", b""))
        if operator not in _CHANGELESS:
            return operator
    raise ValueError("a graph that goes in circles")


def _read(content: mmap.mmap) -> GraphTensors:
    ir_version, graph = 0, None
    for number, kind, start, end in _fields(content, 0, len(content)):
        if number == _MODEL_IR and kind == _VARINT:
            ir_version = start
        elif number == _MODEL_GRAPH and kind == _BYTES:
            graph = (start, end)
    if graph is None:
        raise ValueError("there is no graph in it")
    inputs, outputs, defaults = [], [], set()
    for number, kind, start, end in _fields(content, *graph):
        if kind != _BYTES:
            continue
        if number == _GRAPH_INPUT:
            inputs.append(_tensor(content, start, end))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_tensor(content, start, end))
        elif number == _GRAPH_INITIALIZER:
            defaults.add(_text(content, start, end, _TENSOR_NAME))
        elif number == _GRAPH_SPARSE:
            defaults.update(_text(content, a, b, _TENSOR_NAME) for a, b in _parts(content, start, end, _SPARSE_VALUES))
    return GraphTensors(
        tuple(tensor for tensor in inputs if tensor.name not in defaults),
        tuple(outputs),
        tuple(tensor for tensor in inputs if tensor.name in defaults and ir_version >= _OVERRIDABLE_SINCE),
    )


def _tensor(content: mmap.mmap, start: int, end: int) -> GraphTensor:
    name = _text(content, start, end, _INFO_NAME)
    for type_at in _parts(content, start, end, _INFO_TYPE):
        for tensor_at in _parts(content, *type_at, _TYPE_TENSOR):
            element, shape = 0, None
            for number, kind, a, b in _fields(content, *tensor_at):
                if number == _TENSOR_ELEMENT and kind == _VARINT:
                    element = a
                elif number == _TENSOR_SHAPE and kind == _BYTES:
                    shape = tuple(_dim(content, *dim) for dim in _parts(content, a, b, _SHAPE_DIM))
            return GraphTensor(name, _DATATYPES.get(element), shape)
    return GraphTensor(name, None, None)


def _dim(content: mmap.mmap, start: int, end: int) -> int:
    for number, kind, value, _ in _fields(content, start, end):
        if number == _DIM_VALUE and kind == _VARINT:
            return value if value < 1 << 63 else -1
    return -1


def _parts(content: mmap.mmap, start: int, end: int, wanted: int) -> list[tuple[int, int]]:
    return [(a, b) for number, kind, a, b in _fields(content, start, end) if number == wanted and kind == _BYTES]


def _text(content: mmap.mmap, start: int, end: int, wanted: int) -> str:
    found = _parts(content, start, end, wanted)
    text = content[found[-1][0] : found[-1][1]].decode() if found else ""
    if "\0" in text:
        raise ValueError("a name that no request can write")
    return text


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[Field]:
    """(number, wire type, start, end of its bytes), or for a varint its value in the place of `start`."""
    while at < end:
        tag, at = _varint(content, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield number, kind, value, at
            continue
        if kind == _BYTES:
            length, at = _varint(content, at)
        elif kind in (_EIGHT, _FOUR):
            length = 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"wire type {kind}")
        if number == 0 or at + length > end:
            raise ValueError("a field ends behind its message")
        yield number, kind, at, at + length
        at += length


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number without end")


def _no_graph(path: Path) -> ModelError:
    return ModelError(f"{path.name} is not an ONNX file", code="model-unloadable")
