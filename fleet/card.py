"""The card: what the catalogue knows of a model version. A worker writes it, the front door validates against it."""

from typing import Any

from pydantic import Field

from fleet.contracts import DevicePolicy, Lane, MediaKind, ModelName, Pool, ResultKind, Sha256
from fleet.tensors import TensorSpec
from fleet.values import Recorded


class Card(Recorded):
    """Of one version."""

    name: ModelName
    version: int = Field(ge=1)
    task: str
    description: str = ""
    licence: str = ""
    accepts: MediaKind
    returns: ResultKind
    params_schema: dict[str, Any] = Field(description="JSON Schema of what a request may ask for")
    lane: Lane = Lane.BULK
    device: DevicePolicy = DevicePolicy.PREFER_GPU
    size_bytes: int = Field(ge=0, description="bytes of the graph and its weights")
    sha256: Sha256
    labels: dict[int, str] = Field(default_factory=dict, description="label value -> name")
    execution_timeout_s: float = Field(default=3600.0, gt=0)
    deadline_s: float | None = Field(default=None, gt=0, description="from submit to end; null: the fleet's default")
    max_attempts: int = Field(default=3, ge=1, le=10)
    expected_s: dict[Pool, float] = Field(default_factory=dict, description="seconds of a typical job, until measured")
    #: Its graph's tensors as requests see them; none for models that are more than one graph.
    inputs: list[TensorSpec] = Field(default_factory=list)
    outputs: list[TensorSpec] = Field(default_factory=list)
    max_batch_size: int = Field(default=0, ge=0, description="0: the graph has no batch dimension")
    config: dict[str, Any] = Field(default_factory=dict, description="as Triton's model configuration")
    example: dict[str, Any] | None = Field(default=None, description="params (and inputs) of a request that works")
