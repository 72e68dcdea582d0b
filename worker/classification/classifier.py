"""What classifies pictures with one loaded model: how its graph is fed, and what its numbers mean."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from fleet.contracts import Stage
from fleet.errors import ModelError, ValidationFailed
from worker.classification.published import Publisher
from worker.classification.settings import ClassificationParams, ClassificationSettings
from worker.contract import Array, Model, Picture, Progress, Tensor
from worker.pictures.feed import PictureFeed
from worker.pictures.items import Stages
from worker.pictures.views import COUNTS, check_views, views_of

Activation = Literal["softmax", "sigmoid", "exp", "none"]
_ENDINGS: Mapping[str, Activation] = {"Softmax": "none", "Sigmoid": "none", "LogSoftmax": "exp"}


class Classifier:
    """Thread-safe. Made once per loaded model: `model.derived(Classifier)`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError for a model that cannot be used so, with what is wrong."""
        settings: ClassificationSettings = model.settings
        self.settings = settings
        publisher = Publisher(model)
        image = _image(model.inputs)
        self.output = _output(model.outputs, settings)
        self.feed = PictureFeed(image, publisher.recipe())
        self.names = publisher.names()
        self._known = frozenset(self.names.values())
        classes = next(self._rows(model, self.feed.numbers([np.zeros((*self.feed.probe_size, 3), np.uint8)])))
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
            feed = self.feed.numbers(views_of(picture.array, self.feed.preprocess, params.augment))
        with stages(Stage.INFER):
            rows = list(self._rows(model, feed))
        with stages(Stage.FINISH):
            scores = np.mean([_activated(row.astype(np.float64), self.activation) for row in rows], axis=0)
            return self._answer(scores, params)

    def check_params(self, params: ClassificationParams) -> None:
        """Raises ValidationFailed `class-unknown`, `views-unsupported`."""
        check_views(self.feed.preprocess, params.augment)
        if not params.class_mapping:
            return
        known = {str(number) for number in range(self.classes)} | self._known
        for name in params.class_mapping:
            if name not in known:
                where = "#/params/class_mapping"
                detail = f"the model has no class {name!r}"
                raise ValidationFailed(detail, [{"detail": detail, "pointer": where}], code="class-unknown")

    def run_bytes(self, params: ClassificationParams, model: Model, progress: Progress) -> int:
        """Memory that a picture takes besides itself."""
        return self.feed.run_bytes(model, progress, COUNTS[params.augment])

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
            self.feed.told(),
        ]

    def _rows(self, model: Model, numbers: Array) -> Iterator[Array]:
        """The output's numbers for each picture, [classes]. Raises ModelError `unknown-output`."""
        answered = self.feed.runs(model, numbers)[self.output.name]
        if answered.ndim < 2 or len(answered) != len(numbers):
            raise _no_scores(answered)
        return map(_row, np.split(answered, len(numbers)))

    def _answer(self, scores: Array, params: ClassificationParams) -> dict[str, Any]:
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
        # A name outranks a number: there are models whose classes are called 0, 1, 2, and in another order.
        said = params.class_mapping.get(name)
        return said or (params.class_mapping.get(str(number), name) if str(number) not in self._known else name)


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
        raise _no_scores(numbers)
    return numbers.reshape(-1)


def _no_scores(numbers: Array) -> ModelError:
    return ModelError(
        f"a classifier answers with [pictures, classes], and the graph with {list(numbers.shape)}",
        code="unknown-output",
    )


def _image(inputs: tuple[Tensor, ...]) -> Tensor:
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise ModelError(
            "a classifier takes one picture, [pictures, 3, height, width] or with the colours last; the graph takes "
            f"{', '.join(f'{tensor.name} {list(tensor.shape)}' for tensor in inputs)}",
            code="unknown-input",
        )
    return inputs[0]


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
