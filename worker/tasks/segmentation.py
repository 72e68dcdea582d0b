"""Segmentation: label every voxel of a volume, on exactly the volume's own grid.

    orient and resample -> normalise -> windows through the network -> blend -> decide at the source's voxels
    -> tidy -> measure -> picture

Each arrow is a module of `worker/volumes/`; what a model needs of them stands in its `model.yaml`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from fleet.contracts import MediaKind, ResultKind, Stage
from fleet.errors import ModelError
from worker.contract import Array, Mask, Model, Progress, Room, Volume
from worker.media.footprint import mask_scratch_bytes
from worker.media.preview import draw_preview
from worker.volumes import components
from worker.volumes.decide import ByArgmax, ByThreshold, Decision, Only, logit, sigmoid, softmax
from worker.volumes.fit import channels_needed, faults, output_of
from worker.volumes.footprint import Footprint
from worker.volumes.intensity import Line
from worker.volumes.labels import LinearPainter, NearestPainter
from worker.volumes.plan import Plan, prepared
from worker.volumes.request import SegmentationParams, applied, chosen
from worker.volumes.scoring import Network, score, unpadded
from worker.volumes.settings import SegmentationSettings, Threshold
from worker.volumes.statistics import measure


class Segmentation:
    """Label every voxel of a volume."""

    name: ClassVar[str] = "segmentation"
    accepts: ClassVar[MediaKind] = MediaKind.VOLUME
    returns: ClassVar[ResultKind] = ResultKind.MASK
    Settings = SegmentationSettings
    Params = SegmentationParams

    def check(self, model: Model) -> Iterator[str]:
        yield from faults(model, model.settings)

    def run(self, media: Volume, params: SegmentationParams, model: Model, progress: Progress) -> Mask:
        """Raises ValidationFailed, InputTooLarge or ModelError; see docs/how-to/segment-a-volume.md."""
        settings = applied(model.settings, params)
        labels = chosen(model.labels, params)
        plan = Plan(media, settings)
        network = Network(
            model, _output_name(model, settings), channels_needed(settings, model.labels),
            plan.orientation, settings.mirror_axes,
        )  # fmt: skip
        with progress.stage(Stage.PREPARE):
            room = admitted(plan, params, network, model, progress)
            grid, line = prepared(media.array, plan, progress, room)
        mask = room.zeros(media.array.shape, mask_type(model))
        paint = NearestPainter if settings.upsample == "labels" else LinearPainter
        painter = paint(mask, plan.maps, decision(settings, labels, model.labels))
        groups = score(grid, plan.layout, plan.blend, network, progress, room=room)
        for planes in unpadded(groups, plan.pads, plan.grid):
            with progress.stage(Stage.FINISH):
                for scores in planes:
                    progress.check()
                    painter.feed(activated(scores, settings))
        del grid
        with progress.stage(Stage.FINISH):
            tidied = tidy(mask, labels, settings, progress, room)
            statistics = measure(mask, media, labels)
            modality = media.about.get("modality") or settings.modality
            preview = draw_preview(media, mask, statistics, modality) if params.preview else None
        facts = {**plan.facts, "intensity": _shown(line), "passes": len(network.flips) * plan.layout.count, **tidied}
        if room.on_disk:
            facts["arrays_on_disk"] = True
        return Mask(mask, media.geometry, labels, statistics, preview, params.format, facts)


def mask_type(model: Model) -> np.dtype[Any]:
    return np.dtype(np.uint8 if max(model.labels) <= 255 else np.uint16)


def admitted(plan: Plan, params: SegmentationParams, network: Network, model: Model, progress: Progress) -> Room:
    """Asks for the job's memory before any of it is taken; where the large arrays go. Raises InputTooLarge."""
    shapes = {model.inputs[0].name: network.input_shape(plan.window)}
    need = Footprint(
        plan=plan,
        channels=network.channels,
        passes=len(network.flips),
        mask_itemsize=mask_type(model).itemsize,
        input_itemsize=model.inputs[0].dtype.itemsize,
        labels=len(model.labels),
        run_bytes=model.run_bytes(shapes),
        preview=params.preview,
        file_format=params.format,
    )
    if need.peak_bytes() > progress.memory_bytes:
        need = replace(need, run_bytes=model.run_bytes(shapes, weigh_with=progress))
    x, y, z = plan.volume.geometry.size
    grid = " × ".join(str(size) for size in plan.orientation.per_tensor_axis(plan.padded))
    return progress.admit(
        f"segmenting {x} × {y} × {z} voxels on a grid of {grid} with {network.channels} channels",
        need.peak_bytes(),
        lean_bytes=need.peak_bytes(on_disk=True),
        scratch_bytes=plan.volume.array.nbytes + mask_scratch_bytes(plan.volume.array.size * need.mask_itemsize),
    )


def activated(scores: Array, settings: SegmentationSettings) -> Array:
    """Probabilities where these are what is interpolated, else the scores as they are."""
    if settings.upsample != "probabilities":
        return scores
    return sigmoid(scores) if isinstance(settings.decide, Threshold) else softmax(scores)


def decision(settings: SegmentationSettings, wanted: Mapping[int, str], all_labels: Mapping[int, str]) -> Decision:
    """How scores become the wanted labels, in whatever form the scores are by then."""
    decide: Decision
    if isinstance(settings.decide, Threshold):
        threshold = settings.decide.threshold
        raw_logits = settings.scores == "logits" and settings.upsample != "probabilities"
        decide = ByThreshold(logit(threshold) if raw_logits else threshold, settings.decide.regions)
    else:
        decide = ByArgmax()
    return decide if set(all_labels) <= {0, *wanted} else Only(decide, tuple(wanted))


def tidy(
    mask: Array, labels: dict[int, str], settings: SegmentationSettings, progress: Progress, room: Room
) -> dict[str, int]:
    """Largest components, then holes, where they are asked for -> how many voxels changed."""
    changed: dict[str, int] = {}
    for wanted, name, work in (
        (settings.largest_component, "voxels_removed", components.keep_largest),
        (settings.fill_holes, "voxels_filled", components.fill_holes),
    ):
        if wanted:
            changed[name] = 0
            for label in labels:
                progress.check()
                changed[name] += work(mask, label, room.zeros)
    return changed


def _output_name(model: Model, settings: SegmentationSettings) -> str:
    output = output_of(model, settings)
    if output is None:
        raise ModelError("pipeline.output names none of the graph's outputs", code="unknown-output")
    return output.name


def _shown(line: Line) -> dict[str, float | None]:
    return {"low": line.low, "high": line.high, "shift": line.shift, "scale": line.scale, "offset": line.offset}


TASK = Segmentation()
