"""What classifies pictures with one loaded model: how its graph is fed, and what its numbers mean."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fleet.contracts import Stage
from fleet.errors import ModelError, ValidationFailed
from worker.classification.published import Publisher
from worker.classification.settings import ClassificationParams, ClassificationSettings
from worker.contract import Array, Model, Picture, Progress, Tensor
from worker.pictures.items import Stages
from worker.pictures.preprocess import Preprocess

Activation = Literal["softmax", "sigmoid", "exp", "none"]
_ENDINGS: Mapping[str, Activation] = {"Softmax": "none", "Sigmoid": "none", "LogSoftmax": "exp"}
#: Runs on less than this cost less than what a worker keeps back.
_SMALL_ELEMENTS = 1 << 18
#: Pictures that a job may have under way together, at most.
_LANES = 16
_INPUT_TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint8))


class Classifier:
    """Thread-safe. Made once per loaded model: `model.derived(Classifier)`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError for a model that cannot be used so, with what is wrong."""
        settings: ClassificationSettings = model.settings
        self.settings = settings
        publisher = Publisher(model)
        self.input = _image(model.inputs)
        self.output = _output(model.outputs, settings)
        #: Whether colours come last, as TensorFlow has them.
        self._colours_last = self.input.shape[1] != 3 and self.input.shape[3] == 3
        published = publisher.recipe()
        self.source = published.source
        self.preprocess = Preprocess(published.recipe)
        self.names = publisher.names()
        self._check_size()
        classes = self._scores(model, np.zeros((*self._probe_size, 3), np.uint8))
        #: Number of classes.
        self.classes = len(classes)
        said = settings.multi_label if settings.multi_label is not None else publisher.multi_label
        ending = model.notes.endings.get(self.output.name, "")
        self.activation = _activation(settings, ending, classes, multi_label=bool(said))
        #: Whether several classes may be true of a picture.
        self.multi_label = bool(said) if said is not None else ending == "Sigmoid" or self.activation == "sigmoid"

    def classify(self, picture: Picture, params: ClassificationParams, model: Model, stages: Stages) -> dict[str, Any]:
        """{"predictions": [{"class_name", "class_id", "confidence"}], "top_class", "top_confidence"}, best first.

        Raises ModelError `result-not-finite`, and as `model.batched`.
        """
        with stages(Stage.PREPARE):
            feed = self._feed(picture.array)
        with stages(Stage.INFER):
            numbers = model.batched({self.input.name: feed})[self.output.name]
        with stages(Stage.FINISH):
            return self._answer(_row(numbers), params)

    def check_mapping(self, params: ClassificationParams) -> None:
        """Raises ValidationFailed `class-unknown`."""
        known = {str(number) for number in range(self.classes)} | set(self.names.values())
        for name in params.class_mapping:
            if name not in known:
                where = "#/params/class_mapping"
                detail = f"the model has no class {name!r}"
                raise ValidationFailed(detail, [{"detail": detail, "pointer": where}], code="class-unknown")

    def run_bytes(self, model: Model, progress: Progress) -> int:
        """Memory that a picture takes besides itself: what it is resized to, the feed, and the run.

        Where a guess would refuse the job the model is weighed.
        """
        height, width = self._probe_size
        around = 24 * height * width
        if 3 * height * width < _SMALL_ELEMENTS:
            return around
        shape = {self.input.name: (1, height, width, 3) if self._colours_last else (1, 3, height, width)}
        need = model.run_bytes(shape)
        if need > progress.memory_bytes // _LANES:
            need = model.run_bytes(shape, weigh_with=progress)
        return need + around

    def faults(self) -> list[str]:
        """What is wrong between names and graph."""
        if not self.names:
            return []
        if beyond := [number for number in self.names if number >= self.classes]:
            return [f"there is a name for class {max(beyond)}, and the graph has {self.classes} classes"]
        missing = self.classes - len(self.names)
        return [f"{missing} of the graph's {self.classes} classes have no name"] if missing else []

    def told(self) -> list[str]:
        """For who checks a model."""
        kind = "several may be true" if self.multi_label else "one is true"
        scores = {"none": "scores as the graph gives them"}.get(self.activation, f"scores by {self.activation}")
        return [
            f"{self.classes} classes, {'named' if self.names else 'without names'}, {kind}; {scores}",
            f"input {self.input.name}: {self.preprocess.recipe.told()} (said by {self.source})",
        ]

    @property
    def _probe_size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.preprocess.recipe.fed or self._fixed_size or (224, 224)

    @property
    def _fixed_size(self) -> tuple[int, int] | None:
        height, width = self.input.shape[1:3] if self._colours_last else self.input.shape[2:]
        return (height, width) if height > 0 and width > 0 else None

    def _check_size(self) -> None:
        fed, fixed = self.preprocess.recipe.fed, self._fixed_size
        if fixed is not None and fed != fixed:
            told = f"{fed[0]} × {fed[1]}" if fed else "pictures of any size"
            raise ModelError(
                f"the graph takes {fixed[0]} × {fixed[1]} pixels, and {self.source} makes {told} of a picture",
                code="preprocess-mismatch",
            )

    def _feed(self, picture: Array) -> Array:
        """[1, 3, h, w] or [1, h, w, 3], of the input's type."""
        pixels = self.preprocess.pixels(picture)
        if self.input.dtype == np.uint8:
            # The graph does the rest by itself.
            numbers = pixels.transpose(2, 0, 1)
        else:
            numbers = self.preprocess.numbers(pixels).astype(self.input.dtype, copy=False)
        if self._colours_last:
            numbers = numbers.transpose(1, 2, 0)
        return np.ascontiguousarray(numbers)[None]

    def _scores(self, model: Model, picture: Array) -> Array:
        """The output's numbers for a picture of the size that is fed. Raises ModelError `unknown-output`."""
        return _row(model.run({self.input.name: self._feed(picture)})[self.output.name])

    def _answer(self, numbers: Array, params: ClassificationParams) -> dict[str, Any]:
        scores = _activated(numbers.astype(np.float64), self.activation)
        if not np.isfinite(scores).all():
            raise ModelError("the model answered with numbers that are not finite", code="result-not-finite")
        best = np.argsort(-scores, kind="stable")[: params.top_k or self.settings.top_k]
        least = params.confidence or 0.0
        predictions = [
            {
                "class_name": self._name(int(number), params),
                "class_id": int(number),
                "confidence": float(scores[number]),
            }
            for number in best
            if scores[number] >= least
        ]
        top = predictions[0] if predictions else {"class_name": None, "confidence": None}
        return {
            "predictions": predictions,
            "top_class": top["class_name"],
            "top_confidence": top["confidence"],
            "multi_label": self.multi_label,
        }

    def _name(self, number: int, params: ClassificationParams) -> str:
        name = self.names.get(number, f"class {number}")
        return params.class_mapping.get(str(number)) or params.class_mapping.get(name) or name


def _activation(settings: ClassificationSettings, ending: str, probe: Array, *, multi_label: bool) -> Activation:
    """`probe` are the output's numbers for a black picture."""
    if settings.activation != "auto":
        return settings.activation
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    # One number can only say how true the one class is.
    if multi_label or len(probe) == 1:
        return "sigmoid"
    # A softmax that was taken apart into other operators shows in what it gives.
    whole = len(probe) > 1 and probe.min() >= 0 and abs(float(probe.sum(dtype=np.float64)) - 1) < 1e-3
    return "none" if whole else "softmax"


def _activated(numbers: Array, activation: Activation) -> Array:
    match activation:
        case "softmax":
            raised: Array = np.exp(numbers - numbers.max())
            raised /= raised.sum()
            return raised
        case "sigmoid":
            shares: Array = 1 / (1 + np.exp(-np.clip(numbers, -700, 700)))
            return shares
        case "exp":
            powers: Array = np.exp(numbers)
            return powers
    return numbers


def _row(numbers: Array) -> Array:
    """[classes] of the only picture; [1, classes, 1, 1] is taken for it. Raises ModelError `unknown-output`."""
    if numbers.ndim < 2 or numbers.shape[0] != 1 or numbers.size != max(numbers.shape[1:]):
        raise ModelError(
            f"a classifier answers with [pictures, classes], and the graph with {list(numbers.shape)}",
            code="unknown-output",
        )
    return numbers.reshape(-1)


def _image(inputs: tuple[Tensor, ...]) -> Tensor:
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise ModelError(
            "a classifier takes one picture, [pictures, 3, height, width] or with the colours last; the graph takes "
            f"{', '.join(f'{tensor.name} {list(tensor.shape)}' for tensor in inputs)}",
            code="unknown-input",
        )
    image = inputs[0]
    if image.dtype not in _INPUT_TYPES:
        raise ModelError(f"{image.name} is {image.dtype.name}: float32, float16 or uint8 is fed", code="unknown-input")
    if image.shape[0] not in (-1, 1):
        raise ModelError(
            f"the graph takes {image.shape[0]} pictures at a time, no more and no fewer: export it with a batch of 1, "
            "or a free one",
            code="fixed-batch",
        )
    return image


def _output(outputs: tuple[Tensor, ...], settings: ClassificationSettings) -> Tensor:
    named = [tensor for tensor in outputs if tensor.name == settings.output]
    if settings.output is not None and not named:
        raise ModelError(f"the graph has no output {settings.output!r}", code="unknown-output")
    candidates = named or [tensor for tensor in outputs if tensor.name == "logits"] or list(outputs)
    if len(candidates) != 1:
        raise ModelError(
            f"the graph has the outputs {', '.join(tensor.name for tensor in outputs)}: say in model.yaml under "
            "pipeline.output which has the classes",
            code="unknown-output",
        )
    return candidates[0]
