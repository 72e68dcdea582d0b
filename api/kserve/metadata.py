"""What /v2 tells of a model: its metadata, and its configuration as Triton writes it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.card import Card
from fleet.tensors import DataType, TensorSpec

#: Those of Triton's extensions that are here.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
)
PLATFORM = "onnxruntime_onnx"


def model_metadata(card: Card, versions: Sequence[int]) -> dict[str, Any]:
    """Shapes have the batch's dimension. A model that is more than one graph has no tensors."""
    return {
        "name": card.name,
        "versions": [str(version) for version in sorted(versions)],
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in card.inputs],
        "outputs": [_tensor(spec) for spec in card.outputs],
    }


def model_config(card: Card, config: Mapping[str, object]) -> dict[str, Any]:
    """What a configuration leaves out is the card's."""
    return {
        "name": card.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": card.max_batch_size,
        "input": [_configured(spec, card) for spec in card.inputs],
        "output": [_configured(spec, card) for spec in card.outputs],
        **config,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": spec.shape}


def _configured(spec: TensorSpec, card: Card) -> dict[str, Any]:
    kind = "STRING" if spec.datatype is DataType.BYTES else spec.datatype.value
    dims = spec.shape[1:] if card.max_batch_size else spec.shape
    return {
        "name": spec.name,
        "data_type": f"TYPE_{kind}",
        "dims": dims,
        **({"optional": True} if spec.optional else {}),
    }
