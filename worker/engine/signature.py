"""What requests see of a model's tensors: those of its graph, as its author's declarations reshape and narrow them."""

from collections.abc import Sequence
from pathlib import Path

from fleet.errors import ModelError
from worker.contract import RequestTensor, Signature
from worker.engine.graph_tensors import GraphTensor, GraphTensors
from worker.engine.manifest import DeclaredTensor, Manifest


def signature_of(manifest: Manifest, graph: GraphTensors, folders: Sequence[Path] = ()) -> Signature:
    """`folders`: where label files may lie, the first one that has it counts.

    Raises ModelError `model-tensors` for tensors that no request can hold, and `labels-unreadable`.
    """
    inputs = tuple(map(_declared, manifest.inputs)) or tuple(map(_found, graph.inputs))
    outputs = tuple(_declared(it, _classes(it, folders)) for it in manifest.outputs)
    return Signature(inputs, outputs or tuple(map(_found, graph.outputs)), manifest.batching.max_batch_size)


def _declared(tensor: DeclaredTensor, classes: tuple[str, ...] = ()) -> RequestTensor:
    graph_shape = None if tensor.reshape is None else tuple(tensor.reshape)
    return RequestTensor(tensor.name, tensor.datatype, tuple(tensor.shape), tensor.optional, graph_shape, classes)


def _found(tensor: GraphTensor) -> RequestTensor:
    if tensor.datatype is None:
        raise ModelError(
            f"the graph's tensor {tensor.name!r} is of a type that no request can hold: a sequence, a map, or numbers "
            "that are neither of 8 to 64 bits nor BOOL nor strings",
            code="model-tensors",
            tensor=tensor.name,
        )
    return RequestTensor(tensor.name, tensor.datatype, tensor.shape)


def _classes(tensor: DeclaredTensor, folders: Sequence[Path]) -> tuple[str, ...]:
    if tensor.label_file is None:
        return ()
    for folder in folders:
        path = folder / tensor.label_file
        if path.is_file():
            try:
                return tuple(line.strip() for line in path.read_text("utf-8").splitlines())
            except (OSError, UnicodeDecodeError) as error:
                raise ModelError(f"{tensor.label_file} cannot be read", code="labels-unreadable") from error
    raise ModelError(
        f"the output {tensor.name!r} names the label file {tensor.label_file!r}, which is not in the model's folder",
        code="labels-unreadable",
        tensor=tensor.name,
    )
