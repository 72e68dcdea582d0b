"""One job's plan: axes, grid, padding and windows, all in the array's order [z, y, x], and what they will say of it."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from fleet.errors import InputTooLarge
from worker.contract import Array, Progress, Room, Volume
from worker.volumes.grid import Maps, map_axes, resample
from worker.volumes.intensity import Line, fit
from worker.volumes.orient import Orientation, orient, orientation_code
from worker.volumes.settings import SegmentationSettings, Threshold, Unchanged, Whole
from worker.volumes.windows import Layout, Triple, lay_out, padding


@dataclass(frozen=True)
class Plan:
    """Where everything of one job lies."""

    volume: Volume
    settings: SegmentationSettings

    @cached_property
    def orientation(self) -> Orientation:
        return orient(self.volume.geometry.direction, self.settings.axes)

    @cached_property
    def maps(self) -> Maps:
        maps = map_axes(self.volume.geometry, self.orientation, self.settings.grid)
        voxels = prod(axis.grid for axis in maps)
        if voxels > self.settings.max_grid_voxels:
            raise InputTooLarge(
                f"this volume becomes a grid of {' × '.join(str(axis.grid) for axis in maps)} voxels at the model's "
                f"spacing; the limit is {self.settings.max_grid_voxels}. Crop it, or check its spacing",
                code="grid-too-large",
                voxels=voxels,
                limit=self.settings.max_grid_voxels,
            )
        return maps

    @property
    def grid(self) -> Triple:
        z, y, x = self.maps
        return z.grid, y.grid, x.grid

    @cached_property
    def window(self) -> Triple:
        run = self.settings.run
        if isinstance(run, Whole):
            z, y, x = (-(-size // run.multiple_of) * run.multiple_of for size in self.grid)
            return z, y, x
        return self.orientation.per_array_axis(run.shape)

    @cached_property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        return padding(self.grid, self.window)

    @property
    def padded(self) -> Triple:
        z, y, x = (size + sum(pad) for size, pad in zip(self.grid, self.pads, strict=True))
        return z, y, x

    @cached_property
    def layout(self) -> Layout:
        run = self.settings.run
        if isinstance(run, Whole):
            return lay_out(self.padded, self.window, 0.0, "even")
        return lay_out(self.padded, self.window, run.overlap, run.starts)

    @property
    def blend(self) -> str:
        run = self.settings.run
        return "constant" if isinstance(run, Whole) else run.blend

    @property
    def facts(self) -> dict[str, Any]:
        """What is done to the volume, for the result."""
        settings, about = self.settings, self.volume.about
        to_tensor = self.orientation.per_tensor_axis
        facts: dict[str, Any] = {
            **{key: value for key, value in about.items() if key != "warnings"},
            "source_orientation": orientation_code(self.volume.geometry.direction),
            "model_axes": settings.axes,
            "flipped_axes": [axis for axis, flip in zip("zyx", self.orientation.flips, strict=True) if flip],
            "grid": list(to_tensor(self.grid)),
            "grid_kind": settings.grid.kind,
            "resampled": any(abs(axis.scale) != 1 or axis.grid != axis.source for axis in self.maps),
            "padded": any(sum(pad) for pad in self.pads),
            "windows": self.layout.count,
            "window": list(to_tensor(self.window)),
            "mirrored": bool(settings.mirror_axes),
            "upsampled": settings.upsample,
            "warnings": list(about.get("warnings", [])),
        }
        if isinstance(settings.decide, Threshold):
            facts["threshold"] = settings.decide.threshold
        if not isinstance(settings.run, Whole):
            facts["overlap"] = settings.run.overlap
        modality = about.get("modality")
        if settings.modality and modality and modality != settings.modality:
            facts["warnings"].append(f"the model was trained on {settings.modality}, and this volume is {modality}")
        if (limit := settings.warn_zero_fraction) is not None:
            zeros = 1 - np.count_nonzero(self.volume.array) / self.volume.array.size
            if zeros > limit:
                facts["warnings"].append(
                    f"{zeros:.0%} of the voxels are exactly zero: the volume looks masked, "
                    "for instance skull-stripped, and the model was not trained on that"
                )
        return facts


def prepared(array: Array, plan: Plan, progress: Progress, room: Room) -> tuple[Array, Line]:
    """The network's input on the padded grid, float32 [z, y, x], and the normalisation that made it."""
    settings = plan.settings
    spec = settings.intensity
    before = not isinstance(spec, Unchanged) and spec.of == "source"
    line = fit(array, spec) if before else Line()
    antialias = getattr(settings.grid, "antialias", False)
    padded = room.zeros(plan.padded, np.float32)
    front, top, left = (before for before, _ in plan.pads)
    z, y, x = plan.grid
    grid = padded[front : front + z, top : top + y, left : left + x]
    resample(array, plan.maps, out=grid, antialias=antialias, prepare=line.clip, check=progress.check)
    if not before:
        line = fit(grid, spec)
    for plane in grid:
        # What was measured on the source was clipped there, before it was interpolated.
        line.apply(plane if before else line.clip(plane))
    if settings.pad.mode == "edge":
        _continue_edges(padded, plan)
    elif settings.pad.value != 0:
        _surround(padded, plan, settings.pad.value)
    return padded, line


def _continue_edges(padded: Array, plan: Plan) -> None:
    """The outermost voxels, repeated outwards axis by axis, in place."""
    for axis, (before, _) in enumerate(plan.pads):
        along = np.moveaxis(padded, axis, 0)
        last = before + plan.grid[axis] - 1
        along[:before] = along[before]
        along[last + 1 :] = along[last]


def _surround(padded: Array, plan: Plan, value: float) -> None:
    for axis, (before, _) in enumerate(plan.pads):
        along = np.moveaxis(padded, axis, 0)
        along[:before] = value
        along[before + plan.grid[axis] :] = value
