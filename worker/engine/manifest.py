"""`model.yaml`: what its author says of a model. Unknown fields are errors."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from fleet.contracts import DevicePolicy, Frozen, Lane, Pool, Sha256
from fleet.errors import ModelError

MANIFEST_NAME = "model.yaml"


class OnnxOptions(Frozen):
    """How to make the session; empty `providers` leaves the choice to the settings."""

    providers: list[str] = Field(default_factory=list)
    graph_optimization: Literal["all", "extended", "basic", "off"] = "all"
    intra_op_threads: int = Field(default=0, ge=0, le=1024)


class Provenance(Frozen):
    """Where the weights come from, in words, and what the graph's file must hash to."""

    note: str = ""
    sha256: Sha256 | None = None


class Manifest(Frozen):
    task: str
    description: str = ""
    licence: str = ""
    source: Provenance = Provenance()
    lane: Lane = Lane.BULK
    device: DevicePolicy = DevicePolicy.PREFER_GPU
    onnx: OnnxOptions = OnnxOptions()
    labels: dict[int, str] = Field(default_factory=dict)
    #: The task's own Settings; parsed by the task.
    pipeline: dict[str, Any] = Field(default_factory=dict)
    execution_timeout_s: float = Field(default=3600.0, gt=0)
    deadline_s: float | None = Field(default=None, gt=0, description="from submit to end")
    max_attempts: int = Field(default=3, ge=1, le=10)
    #: Of a typical job on a usual device of either pool, until the fleet has measured it.
    expected_s: dict[Pool, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _labels_are_voxel_values(cls, labels: dict[int, str]) -> dict[int, str]:
        wrong = [value for value in labels if not 0 <= value <= 65535]
        if wrong:
            raise ValueError(f"label values must lie in 0..65535, found {wrong}")
        return labels


def read_manifest(folder: Path) -> Manifest:
    """Raises ModelError `manifest-invalid`, naming each field that is wrong."""
    path = folder / MANIFEST_NAME
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder.name}: there is no {MANIFEST_NAME}", code="manifest-missing") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder.name}/{MANIFEST_NAME} is not YAML: {error}", code="manifest-invalid") from error
    if not isinstance(content, dict):
        raise ModelError(f"{folder.name}/{MANIFEST_NAME} must be a mapping of fields", code="manifest-invalid")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise ModelError(f"{folder.name}/{MANIFEST_NAME}: {faults(error)}", code="manifest-invalid") from error


def faults(error: ValidationError) -> str:
    """All faults of a validation in one line: `pipeline.grid: ...; licence: ...`."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'the document'}: {fault['msg']}" for fault in error.errors()
    )
