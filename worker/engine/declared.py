"""Whether what is declared of a model's tensors agrees with its graph, and where not: by name, type and shape."""

from collections.abc import Iterator, Mapping, Sequence

from fleet.errors import ModelError
from worker.contract import RequestTensor, Tensor
from worker.engine.graph_tensors import GraphTensor, graph_tensors
from worker.engine.model_version import ModelVersion
from worker.media.tensors import datatype_of

Shape = tuple[int, ...]


def faults_of(version: ModelVersion, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[str]:
    """One sentence for each disagreement; empty when the version can be served as declared.

    inputs, outputs: those of the session, which knows more shapes than the file says.
    """
    try:
        signature = version.signature
    except ModelError as error:
        declared = version.manifest.inputs or version.manifest.outputs
        return [error.message] if declared or version.task.name == "tensors" else []
    graph = graph_tensors(version.graph)
    unranked = {tensor.name for tensor in (*graph.inputs, *graph.outputs) if tensor.shape is None}
    defaulted = {tensor.name: tensor for tensor in graph.defaulted}
    takes = {tensor.name: tensor for tensor in inputs}
    gives = {tensor.name: tensor for tensor in outputs}
    batched = signature.max_batch_size > 0
    faults: list[str] = []
    for tensor in signature.inputs:
        faults += _input_faults(tensor, takes, defaulted, batched=batched, unranked=unranked)
    for name in takes.keys() - {tensor.name for tensor in signature.inputs}:
        faults.append(f"the graph's input {_graph_words(takes[name])} is not declared, and it cannot run without it")
    for tensor in signature.outputs:
        if tensor.name not in gives:
            faults.append(
                f"output {tensor.name!r} is declared, and the graph has no such output: it has {_names(gives)}"
            )
        else:
            faults += _differences("output", tensor, gives[tensor.name], batched=batched, unranked=unranked)
    return faults


def _input_faults(
    tensor: RequestTensor,
    takes: Mapping[str, Tensor],
    defaulted: Mapping[str, GraphTensor],
    *,
    batched: bool,
    unranked: set[str],
) -> Iterator[str]:
    if tensor.name in takes:
        if tensor.optional:
            yield f"input {tensor.name!r} is declared optional, and the graph has no default for it"
        yield from _differences("input", tensor, takes[tensor.name], batched=batched, unranked=unranked)
    elif tensor.name not in defaulted:
        yield f"input {tensor.name!r} is declared, and the graph has no such input: it has {_names(takes)}"
    elif tensor.datatype is not (datatype := defaulted[tensor.name].datatype):
        yield f"input {tensor.name!r} is declared {tensor.datatype}, and the graph's is {datatype}"


def _differences(kind: str, tensor: RequestTensor, own: Tensor, *, batched: bool, unranked: set[str]) -> Iterator[str]:
    datatype, where = datatype_of(own.dtype), f"{kind} {tensor.name!r}"
    if tensor.datatype is not datatype:
        yield f"{where} is declared {tensor.datatype}, and the graph's is {datatype}"
    if own.name in unranked and not own.shape:
        return
    if batched and (not own.shape or own.shape[0] != -1):
        yield (
            f"{where}: with max_batch_size the graph's first dimension must be free, and its shape is "
            f"{list(own.shape)}; say `max_batch_size: 0` and give the whole shape"
        )
        return
    wanted = tensor.graph_shape or tensor.shape
    if wanted is not None and not _agree(wanted, own.shape):
        reshaped = " after its reshape" if tensor.graph_shape else ""
        batch = ", the batch's dimension included" if batched else ""
        yield f"{where} is declared {list(wanted)}{reshaped}{batch}, and the graph's shape is {list(own.shape)}"


def _agree(declared: Shape, own: Shape) -> bool:
    """What is free on one side may be any size on the other: an author may narrow what a graph takes."""
    return len(declared) == len(own) and all(
        -1 in pair or pair[0] == pair[1] for pair in zip(declared, own, strict=True)
    )


def _graph_words(tensor: Tensor) -> str:
    return f"{tensor.name!r} ({datatype_of(tensor.dtype)} {list(tensor.shape)})"


def _names(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(map(_graph_words, tensors.values())) or "none"
