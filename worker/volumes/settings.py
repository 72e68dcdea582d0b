"""What `model.yaml` may say under `pipeline` for a segmentation: the recipe that the network was trained with.

Four of its knobs cover the reference tools: `grid.align` (nnU-Net half_pixel, MONAI origin, TotalSegmentator
endpoint), `axes`, `run.starts` with `run.blend`, and `decide` with `upsample`.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from worker.contract import TaskSettings
from worker.volumes.orient import is_axes

Shape = tuple[
    Annotated[int, Field(ge=1, le=4096)],
    Annotated[int, Field(ge=1, le=4096)],
    Annotated[int, Field(ge=1, le=4096)],
]
Align = Literal["half_pixel", "origin", "endpoint"]


class SourceGrid(TaskSettings):
    """The volume's own voxels, only reordered."""

    kind: Literal["source"]


class ShapeGrid(TaskSettings):
    """A fixed number of voxels whatever the field of view."""

    kind: Literal["shape"]
    shape: Shape = Field(description="voxels per tensor axis")
    align: Align = "half_pixel"
    antialias: bool = Field(default=False, description="Gaussian of sigma max(0, (n/m - 1)/2) before shrinking")


class SpacingGrid(TaskSettings):
    """A fixed voxel size."""

    kind: Literal["spacing"]
    spacing_mm: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (
        Field(description="mm per tensor axis")
    )
    align: Align = "half_pixel"
    antialias: bool = False


Grid = Annotated[SourceGrid | ShapeGrid | SpacingGrid, Field(discriminator="kind")]
#: Whether statistics are taken, and clipping is done, on the source's voxels or on the resampled ones.
Measured = Literal["source", "grid"]


class Unchanged(TaskSettings):
    """Intensities go in as they are."""

    method: Literal["none"]


class DivideByMax(TaskSettings):
    method: Literal["max"]
    of: Measured = "grid"


class ZScore(TaskSettings):
    """(x - mean) / std of this volume; `nonzero`: over its non-zero voxels, and only they change."""

    method: Literal["zscore"]
    of: Measured = "source"
    nonzero: bool = False


class CtScore(TaskSettings):
    """clip(x, low, high), then (x - mean) / std: nnU-Net's CT scheme with the training set's figures."""

    method: Literal["ct"]
    of: Measured = "source"
    low: float
    high: float
    mean: float
    std: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "CtScore":
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class Percentile(TaskSettings):
    """Clip to two percentiles of this volume, then to 0..1."""

    method: Literal["percentile"]
    of: Measured = "source"
    low: float = Field(default=0.5, ge=0, lt=100)
    high: float = Field(default=99.5, gt=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> "Percentile":
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class Range(TaskSettings):
    """[source_low, source_high] becomes [low, high], linearly. Absent source ends are this volume's own."""

    method: Literal["range"]
    of: Measured = "grid"
    source_low: float | None = None
    source_high: float | None = None
    low: float = 0.0
    high: float = 1.0
    clip: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.source_low is not None and self.source_high is not None and self.source_low >= self.source_high:
            raise ValueError(f"source_low ({self.source_low}) must be below source_high ({self.source_high})")
        return self


Intensity = Annotated[Unchanged | DivideByMax | ZScore | CtScore | Percentile | Range, Field(discriminator="method")]


class Whole(TaskSettings):
    """One run over the whole grid."""

    mode: Literal["whole"]
    multiple_of: int = Field(default=1, ge=1, le=256, description="pad every axis up to a multiple of this")


class Windows(TaskSettings):
    """Overlapping windows, blended."""

    mode: Literal["windows"]
    shape: Shape = Field(description="voxels per tensor axis")
    overlap: float = Field(default=0.5, ge=0, le=0.9)
    starts: Literal["even", "fixed"] = Field(
        default="even", description="even: spread evenly (nnU-Net); fixed: fixed interval, last one shifted (MONAI)"
    )
    blend: Literal["constant", "gaussian_monai", "gaussian_nnunet"] = "gaussian_nnunet"


Run = Annotated[Whole | Windows, Field(discriminator="mode")]


class Padding(TaskSettings):
    """What surrounds a grid that is smaller than the window; after normalisation."""

    mode: Literal["constant", "edge"] = "constant"
    value: float = 0.0


class Region(TaskSettings):
    """Where this channel is above the threshold, this label is painted."""

    channel: int = Field(ge=0)
    label: int = Field(ge=1, le=65535)


class Threshold(TaskSettings):
    """Each channel on its own (sigmoid). Later regions are painted over earlier ones."""

    method: Literal["threshold"]
    threshold: float = Field(default=0.5, gt=0, lt=1)
    regions: tuple[Region, ...] = Field(default=(Region(channel=0, label=1),), min_length=1)

    @field_validator("regions")
    @classmethod
    def _labels_once(cls, value: tuple[Region, ...]) -> tuple[Region, ...]:
        labels = [region.label for region in value]
        if repeated := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"label {repeated[0]} is painted by several regions; give each region a label of its own")
        return value


class Argmax(TaskSettings):
    """The strongest channel; its number is the label and 0 is background."""

    method: Literal["argmax"]


Decide = Annotated[Threshold | Argmax, Field(discriminator="method")]


class SegmentationSettings(TaskSettings):
    """The whole recipe."""

    modality: Literal["CT", "MR", "PT"] | None = Field(
        default=None, description="what it was trained on: the preview's window, and a warning on other inputs"
    )
    axes: str = Field(
        default="RAS",
        description="the tensor's spatial axes: where each points to (RAS, SPL, ...), or the file's own order (zyx)",
    )
    grid: Grid
    intensity: Intensity = Unchanged(method="none")
    run: Run = Whole(mode="whole")
    pad: Padding = Padding()
    mirror_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = Field(
        default=(), description="tensor axes over whose flips the scores are averaged"
    )
    output: str | None = Field(default=None, description="the graph's output to read; needed when it has several")
    scores: Literal["probabilities", "logits"] = Field(description="what that output holds")
    decide: Decide
    upsample: Literal["scores", "probabilities", "labels"] = Field(
        default="scores", description="what is brought back to the source grid: linear for the first two, else nearest"
    )
    largest_component: bool = False
    fill_holes: bool = False
    max_grid_voxels: int = Field(
        default=512 * 1024**2, ge=1, description="largest grid to run on; 4 bytes of memory per voxel"
    )
    warn_zero_fraction: float | None = Field(
        default=None, gt=0, le=1, description="warn when more of the voxels are exactly zero: a masked volume"
    )

    @field_validator("axes")
    @classmethod
    def _axes(cls, value: str) -> str:
        if not is_axes(value):
            raise ValueError(f"{value!r} is neither three patient axes such as RAS nor an order of x, y and z")
        return value

    @field_validator("mirror_axes")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names an axis twice")
        return value

    @model_validator(mode="after")
    def _coherent(self) -> "SegmentationSettings":
        if self.upsample == "probabilities" and self.scores == "probabilities":
            raise ValueError("upsample: `probabilities` is for graphs whose scores are logits; say `scores`")
        return self
