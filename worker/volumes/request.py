"""What a request may ask of a segmentation, and how it changes the model's own settings."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from fleet.errors import ValidationFailed
from worker.contract import TaskParams
from worker.volumes.settings import SegmentationSettings, Threshold, Windows


class SegmentationParams(TaskParams):
    """Absent fields leave the model's own settings alone."""

    format: Literal["nifti", "nrrd", "mha"] = Field(default="nifti", description="the mask's file format")
    preview: bool = Field(default=True, description="also make a PNG of three planes with the mask's outline")
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="probability above which a voxel counts; only for threshold models"
    )
    mirror: bool | None = Field(
        default=None, description="average over the mirrored inputs that the model names: better and slower"
    )
    largest_component: bool | None = Field(default=None, description="keep only each label's largest piece")
    fill_holes: bool | None = Field(default=None, description="fill background that a label encloses")
    overlap: float | None = Field(
        default=None, ge=0, le=0.9, description="share of a window that its neighbour covers; only for windowed models"
    )
    labels: list[Annotated[int, Field(ge=1, le=65535)]] | None = Field(
        default=None, min_length=1, description="label values to return; the others become background"
    )
    series_uid: str | None = Field(
        default=None,
        pattern=r"^[0-9.]{1,64}$",
        description="which series of a DICOM zip to read, when it holds several",
    )


def applied(settings: SegmentationSettings, params: SegmentationParams) -> SegmentationSettings:
    """The settings for this one job. Raises ValidationFailed for a wish that the model cannot follow."""
    changes: dict[str, Any] = {
        name: wish for name in ("largest_component", "fill_holes") if (wish := getattr(params, name)) is not None
    }
    if params.threshold is not None:
        if not isinstance(settings.decide, Threshold):
            raise _refused("threshold", "this model picks the strongest class and has no threshold")
        changes["decide"] = settings.decide.model_copy(update={"threshold": params.threshold})
    if params.overlap is not None:
        if not isinstance(settings.run, Windows):
            raise _refused("overlap", "this model runs over the whole volume at once, without windows")
        changes["run"] = settings.run.model_copy(update={"overlap": params.overlap})
    if params.mirror and not settings.mirror_axes:
        raise _refused("mirror", "this model names no axes to mirror (`mirror_axes` is empty)")
    if params.mirror is False:
        changes["mirror_axes"] = ()
    return settings.model_copy(update=changes)


def chosen(labels: Mapping[int, str], params: SegmentationParams) -> dict[int, str]:
    """The labels to return, without background. Raises ValidationFailed for one that the model does not have."""
    present = {value: name for value, name in labels.items() if value != 0}
    if params.labels is None:
        return present
    unknown = sorted(set(params.labels) - set(present))
    if unknown:
        raise _refused("labels", f"this model has no label {unknown[0]}; it has {sorted(present)}")
    return {value: present[value] for value in sorted(set(params.labels))}


def _refused(field: str, why: str) -> ValidationFailed:
    return ValidationFailed(
        f"params.{field}: {why}", [{"detail": why, "pointer": f"/params/{field}"}], code="validation-failed"
    )
