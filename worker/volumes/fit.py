"""Whether a graph, its labels and its settings belong together. Asked once, when the model is loaded."""

from collections.abc import Iterator, Mapping

import numpy as np

from worker.contract import Model, Tensor
from worker.volumes.settings import SegmentationSettings, ShapeGrid, Threshold, Whole

_FLOATS = (np.dtype(np.float32), np.dtype(np.float16))


def channels_needed(settings: SegmentationSettings, labels: Mapping[int, str]) -> int:
    """How many channels the scores must have."""
    if isinstance(settings.decide, Threshold):
        return max(region.channel for region in settings.decide.regions) + 1
    return max(labels, default=0) + 1


def output_of(model: Model, settings: SegmentationSettings) -> Tensor | None:
    """The output that holds the scores; None when it is not there or not clear."""
    if settings.output is None:
        return model.outputs[0] if len(model.outputs) == 1 else None
    return next((output for output in model.outputs if output.name == settings.output), None)


def faults(model: Model, settings: SegmentationSettings) -> Iterator[str]:
    """One sentence for each thing that does not fit."""
    yield from _input_faults(model, settings)
    yield from _label_faults(model.labels, settings)
    output = output_of(model, settings)
    if output is None:
        names = ", ".join(f"`{tensor.name}`" for tensor in model.outputs)
        yield f"pipeline.output must name one of the graph's outputs ({names})."
    elif len(output.shape) != 5:
        yield f"Output `{output.name}` has {len(output.shape)} dimensions; a segmentation needs [N, C, D, H, W]."
    elif output.shape[1] not in (-1, needed := channels_needed(settings, model.labels)):
        yield (f"Output `{output.name}` has {output.shape[1]} channels, but `decide` and `labels` need {needed}.")


def _input_faults(model: Model, settings: SegmentationSettings) -> Iterator[str]:
    if len(model.inputs) != 1:
        yield f"The graph has {len(model.inputs)} inputs; a segmentation feeds exactly one."
        return
    tensor = model.inputs[0]
    if tensor.dtype not in _FLOATS:
        yield f"Input `{tensor.name}` is {tensor.dtype}; a segmentation feeds float32 or float16."
    if len(tensor.shape) != 5:
        yield f"Input `{tensor.name}` has {len(tensor.shape)} dimensions; a segmentation needs [N, 1, D, H, W]."
        return
    if tensor.shape[0] not in (-1, 1):
        yield f"Input `{tensor.name}` has a fixed batch of {tensor.shape[0]}; it must be 1 or free."
    if tensor.shape[1] not in (-1, 1):
        yield f"Input `{tensor.name}` has {tensor.shape[1]} channels; a scalar volume gives 1."
    yield from _size_faults(tensor, settings)


def _size_faults(tensor: Tensor, settings: SegmentationSettings) -> Iterator[str]:
    """The spatial sizes that the settings will feed, against those that the graph fixes."""
    run = settings.run
    if not isinstance(run, Whole):
        fed: tuple[int, ...] | None = run.shape
    elif isinstance(settings.grid, ShapeGrid):
        fed = tuple(-(-size // run.multiple_of) * run.multiple_of for size in settings.grid.shape)
    else:
        fed = None
    for axis, fixed in enumerate(tensor.shape[2:]):
        if fixed == -1:
            continue
        if fed is None:
            yield (
                f"Input `{tensor.name}` fixes axis {axis + 2} at {fixed}, but the size of a whole "
                f"`{settings.grid.kind}` grid varies: use a `shape` grid or `run.mode: windows`."
            )
        elif fed[axis] != fixed:
            yield f"Input `{tensor.name}` fixes axis {axis + 2} at {fixed}, but the settings feed {fed[axis]}."


def _label_faults(labels: Mapping[int, str], settings: SegmentationSettings) -> Iterator[str]:
    named = {value for value in labels if value != 0}
    if not named:
        yield "model.yaml names no labels; a segmentation needs at least one besides background."
    if any(not 0 <= value <= 65535 for value in named):
        yield "A label value is outside 0..65535."
    if isinstance(settings.decide, Threshold):
        for region in settings.decide.regions:
            if region.label not in named:
                yield f"pipeline.decide.regions paints label {region.label}, which `labels` does not name."
    elif missing := set(range(1, max(named, default=0))) - named:
        yield f"With `argmax` every channel is a label, but `labels` does not name {min(missing)}."
