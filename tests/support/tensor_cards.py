"""Cards of models that take tensors, for front doors without workers."""

from typing import Any

from fleet.card import Card
from fleet.contracts import Lane, MediaKind, ResultKind
from fleet.tensors import DataType, TensorSpec
from tests.support.front_door import card


def pair(version: int = 1, **changes: Any) -> Card:
    """x: FP32 [-1, 2] and n: INT32 [-1] in; y: FP32 [-1, 2] and text: BYTES [-1] out."""
    values: dict[str, Any] = {
        "task": "tensors",
        "accepts": MediaKind.TENSORS,
        "returns": ResultKind.TENSORS,
        "lane": Lane.INTERACTIVE,
        "inputs": [tensor("x", DataType.FP32, -1, 2), tensor("n", DataType.INT32, -1)],
        "outputs": [tensor("y", DataType.FP32, -1, 2), tensor("text", DataType.BYTES, -1)],
        "params_schema": {"type": "object"},
    }
    return card("pair", version, **(values | changes))


def tensor(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=list(shape))
