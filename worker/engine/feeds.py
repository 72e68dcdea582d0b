"""From the tensors of a request to what a graph is fed: each one known, of its type, and of a shape that fits."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.errors import ValidationFailed
from worker.contract import Array, RequestTensor, Signature
from worker.media.tensors import datatype_of


def feeds_of(given: Mapping[str, Array], signature: Signature) -> dict[str, Array]:
    """What the graph is fed. Raises ValidationFailed.

    `tensor-unknown`, `tensor-missing`, `tensor-datatype`, `tensor-shape`, `batch-too-large`, `batch-sizes-differ`.
    """
    known = {tensor.name: tensor for tensor in signature.inputs}
    for name in given:
        if name not in known:
            raise ValidationFailed(
                f"the model has no input {name!r}; it has {', '.join(known)}",
                code="tensor-unknown",
                tensor=name,
                known=list(known),
            )
    feeds = {}
    for name, wanted in known.items():
        if name in given:
            feeds[name] = _fed(given[name], wanted, signature.max_batch_size)
        elif not wanted.optional:
            raise ValidationFailed(
                f"the input {name!r} is missing: the model wants {described(wanted)}",
                code="tensor-missing",
                tensor=name,
                wanted=described(wanted),
            )
    if signature.max_batch_size and len({len(feed) for feed in feeds.values()}) > 1:
        sizes = {name: len(feed) for name, feed in feeds.items()}
        raise ValidationFailed(
            f"the inputs differ in their batch size, which is their first dimension: {sizes}",
            code="batch-sizes-differ",
            batch_sizes=sizes,
        )
    return feeds


def _fed(array: Array, wanted: RequestTensor, max_batch_size: int) -> Array:
    datatype, shape = datatype_of(array.dtype), list(array.shape)
    facts: dict[str, Any] = {"tensor": wanted.name, "given": f"{datatype} {shape}", "wanted": described(wanted)}
    said = f"the input {wanted.name!r} is {facts['given']}, and the model wants {facts['wanted']}"
    if datatype is not wanted.datatype:
        raise ValidationFailed(said, code="tensor-datatype", **facts)
    if wanted.shape is not None:
        fits = all(size in (-1, has) for has, size in zip(shape, wanted.shape, strict=False))
        if len(shape) != len(wanted.shape) or not fits:
            raise ValidationFailed(said, code="tensor-shape", **facts)
    if max_batch_size and shape and shape[0] > max_batch_size:
        raise ValidationFailed(
            f"{said}, in batches of at most {max_batch_size}",
            code="batch-too-large",
            max_batch_size=max_batch_size,
            **facts,
        )
    if wanted.graph_shape is None or wanted.shape is None:
        return array
    return array.reshape(carried(array.shape, wanted.shape, wanted.graph_shape))


def carried(actual: tuple[int, ...], pattern: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """`target` with its free dimensions taken, in order, from those of `actual`."""
    free = iter([size for size, want in zip(actual, pattern, strict=True) if want == -1])
    return tuple(next(free) if size == -1 else size for size in target)


def described(tensor: RequestTensor) -> str:
    """For people: "FP32 [-1, 16]"."""
    return f"{tensor.datatype} {'of any shape' if tensor.shape is None else list(tensor.shape)}"
