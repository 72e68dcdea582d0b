"""What can be known of a graph before its family is: tensors, notes, the publisher's files, and a run on nothing."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array, Model, Tensor
from worker.detection.metadata import UltralyticsMetadata, class_names, numbered, ultralytics_metadata
from worker.detection.settings import DetectionSettings
from worker.pictures.publisher import PublishedFiles

_USUAL_SIZE = (640, 640)
#: Second inputs that detectors have.
SIZES, MASK = "orig_target_sizes", "pixel_mask"


class Facts:
    """Of one loaded model. Raises ModelError for a graph that takes no picture, or several at a time."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.settings: DetectionSettings = model.settings
        self.inputs: Mapping[str, Tensor] = {tensor.name: tensor for tensor in model.inputs}
        self.outputs: Mapping[str, Tensor] = {tensor.name: tensor for tensor in model.outputs}
        self.image = _image(model.inputs)
        notes = model.notes
        self.operators = notes.operators
        self.ultralytics: UltralyticsMetadata | None = ultralytics_metadata(notes.metadata)
        self._written_names = class_names(notes.metadata.get("names", ""))
        files = PublishedFiles(model.file)
        self.config = files.object(self.settings.config)
        self.preprocessor = files.object(self.settings.preprocessor)

    @property
    def free_sides(self) -> bool:
        """Whether the graph takes pictures of any size."""
        return min(self.image.shape[2:]) < 0

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of what the graph is fed: what it takes, else what is said, else 640 × 640.

        Raises ModelError `input-size-unfit` when model.yaml says something else than the graph.
        """
        height, width = self.image.shape[2:]
        noted = self.ultralytics.size if self.ultralytics else None
        size = self.settings.input_size or noted or _USUAL_SIZE
        size = (width if width > 0 else size[0], height if height > 0 else size[1])
        said = self.settings.input_size
        if said is not None and said != size:
            raise ModelError(
                f"pipeline.input_size is {list(said)}, and the graph takes pictures of {size[0]} × {size[1]} only",
                code="input-size-unfit",
            )
        return size

    @property
    def names(self) -> Mapping[int, str]:
        """Of the classes, from whichever says them first: model.yaml, the graph's metadata, the publisher's file."""
        return self._model.labels or self._written_names or _id2label(self.config)

    @property
    def names_noted(self) -> bool:
        """Whether the file itself says what its classes are called."""
        return self._written_names is not None

    @cached_property
    def probe(self) -> Mapping[str, Array]:
        """What the graph answers to a black picture of `size`. Raises as `model.run`."""
        feeds = {
            name: np.full(shape, max(self.size) if name == SIZES else name == MASK, self.inputs[name].dtype)
            for name, shape in self.shapes_for(self.size).items()
        }
        return self._model.run(feeds)

    def shapes_for(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Of the inputs, for one picture of (width, height). Raises ModelError `unknown-input`."""
        if strange := self.inputs.keys() - {self.image.name, SIZES, MASK}:
            raise ModelError(
                f"the graph wants {', '.join(strange)}, which a picture does not give", code="unknown-input"
            )
        shapes: dict[str, tuple[int, ...]] = {}
        for name, tensor in self.inputs.items():
            # The picture, or a mask of it, which some exports have in a size of its own.
            sides = zip(tensor.shape[-2:], size[::-1], strict=True)
            given = (1, 2) if name == SIZES else tuple(side if side > 0 else whole for side, whole in sides)
            shapes[name] = (1, 3, *given) if name == self.image.name else given if name == SIZES else (1, *given)
        return shapes

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the outputs for a batch of one, free dimensions found out by a run."""
        if all(tensor.shape and min(tensor.shape) > 0 for tensor in self.outputs.values()):
            return {name: tensor.shape for name, tensor in self.outputs.items()}
        return {name: value.shape for name, value in self.probe.items()}

    @property
    def only_output(self) -> str | None:
        """The name of the first output where all others have four axes, as masks' prototypes have; else None."""
        flat = [name for name, shape in self.shapes.items() if len(shape) != 4]
        return flat[0] if len(flat) == 1 else None

    def anchors(self) -> Mapping[tuple[int, ...], int]:
        """Strides that detectors have -> how many places they make of the input."""
        width, height = self.size
        return {
            strides: sum(-(-width // stride) * -(-height // stride) for stride in strides)
            for strides in ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
        }

    def told(self) -> str:
        """The tensors, for people."""
        outputs = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        return f"{', '.join(self.inputs)} in, {outputs} out"


def _image(inputs: tuple[Tensor, ...]) -> Tensor:
    pictures = [tensor for tensor in inputs if len(tensor.shape) == 4]
    if len(pictures) != 1:
        raise ModelError(
            f"the graph must take one picture [pictures, 3, height, width], and it takes "
            f"{', '.join(f'{tensor.name} {list(tensor.shape)}' for tensor in inputs)}",
            code="unknown-input",
        )
    rows, channels, *_ = pictures[0].shape
    if channels not in (-1, 3):
        raise ModelError(
            f"{pictures[0].name} is {list(pictures[0].shape)}: a detector takes [pictures, 3, height, width], with the "
            "colours before the sides",
            code="unknown-input",
        )
    if rows not in (-1, 1):
        raise ModelError(
            f"the graph takes {rows} pictures at a time, no more and no fewer: export it with a batch of 1 or a free "
            "batch dimension",
            code="fixed-batch",
        )
    return pictures[0]


def _id2label(config: Mapping[str, Any]) -> Mapping[int, str]:
    labels = config.get("id2label")
    return numbered(labels) if isinstance(labels, dict) else {}
