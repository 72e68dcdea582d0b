"""What finds things in pictures with one loaded model: its family, the names of its classes, its thresholds."""

from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np

from fleet.contracts import Stage
from fleet.errors import ModelError, ValidationFailed, storable
from worker.contract import Model, Picture, Progress, Shapes
from worker.detection.facts import Facts
from worker.detection.families.yolov7_end_to_end import flat_output
from worker.detection.found import Found, Wanted, not_finite
from worker.detection.params import DetectionParams
from worker.detection.recognition import recognised
from worker.detection.settings import DetectionSettings
from worker.pictures.items import Stages

_PROBLEM_KEYS = 20
#: Pictures that are worked on at a time, of a job of many: rather weighed too often than refused.
_LANES = 4
#: Quantised networks give a little more than one.
_MOST_SCORE = 1.05


class Detector:
    """Thread-safe. Made once per loaded model: `model.derived(Detector)`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError for a graph that is of no family, or could be of two."""
        facts = Facts(model)
        self.settings: DetectionSettings = model.settings
        self.family = recognised(facts)
        # Where recognition did not need it: what a run takes is known from here on, and a broken graph shows.
        _ = facts.probe
        # Rows of boxes say nothing of pictures: of a run with others nobody could tell whose they are.
        self._joins = flat_output(facts) is None
        self._largest: Shapes = facts.shapes_for(self.family.largest)
        names = facts.names or ({0: "face"} if self.family.name == "centerface" else {})
        self.names: Mapping[int, str] = {number: str(storable(name)) for number, name in names.items()}

    def name_of(self, class_id: int) -> str:
        return self.names.get(class_id, str(class_id))

    def wanted(self, params: DetectionParams, usual_confidence: float | None) -> Wanted:
        """What a request asks for; what it does not say is the author's, the operator's, or the family's own.

        Raises ValidationFailed `class-unknown`.
        """
        settings, family = self.settings, self.family.defaults
        agnostic = family.agnostic if params.class_agnostic is None else params.class_agnostic
        return Wanted(
            _first(params.confidence, settings.confidence, usual_confidence, family.confidence),
            _first(params.iou, settings.iou, family.iou, 1.0),
            int(_first(params.max_detections, settings.max_detections, family.max_detections)),
            None if params.classes is None else frozenset(chain(*self._numbers(params.classes, "classes"))),
            agnostic,
        )

    def renamed(self, mapping: Mapping[str, str]) -> Mapping[int, str]:
        """Number -> the name that the request wants for it. Raises ValidationFailed `class-unknown`."""
        found = zip(self._numbers(list(mapping), "class_mapping"), mapping.values(), strict=True)
        return {number: name for numbers, name in found for number in numbers}

    def find(self, picture: Picture, wanted: Wanted, model: Model, stages: Stages) -> Found:
        """Boxes in pixels of the upright picture, within it, best first.

        Raises ModelError `result-not-finite`, `detection-misread`, and as `model.batched`.
        """
        with stages(Stage.PREPARE):
            prepared = self.family.prepared(picture.array)
        with stages(Stage.INFER):
            outputs = (model.batched if self._joins else model.run)(prepared.feeds)
        with stages(Stage.FINISH):
            found = self.family.found(outputs, prepared.frame, wanted)
            if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
                raise not_finite()
            if len(found) and (most := found.scores.max()) > _MOST_SCORE:
                raise ModelError(
                    f"the model gives a score of {most:g}, which is no probability: its numbers are read as "
                    f"{self.family.name} ({self.family.told}), and that may be wrong. Say pipeline.family, or export "
                    "it with its library's own command, which notes what it is",
                    code="detection-misread",
                )
            return found.clipped(picture.size)

    def run_bytes(self, model: Model, progress: Progress) -> int:
        """What finding takes besides a picture: the run, its largest input as pixels and as numbers, what it answers.

        Where a guess would refuse the job the model is weighed.
        """
        width, height = self.family.largest
        around = width * height * 3 * 9
        need = model.run_bytes(self._largest)
        if need + around > progress.memory_bytes // _LANES:
            need = model.run_bytes(self._largest, weigh_with=progress)
        return need + around

    def told(self) -> Iterator[str]:
        """What was found out, for people."""
        defaults = self.family.defaults
        suppressed = "" if defaults.iou is None else f", iou {_first(self.settings.iou, defaults.iou):g}"
        yield f"family  {self.family.name}: {self.family.told}"
        yield f"confidence {_first(self.settings.confidence, defaults.confidence):g}{suppressed} unless a request says"
        if self.names:
            listed = ", ".join(list(self.names.values())[:5])
            yield f"{len(self.names)} class names: {listed}{', ...' if len(self.names) > 5 else ''}"
        else:
            yield "no class names: answers give numbers; name them under `labels`"

    def faults(self) -> Iterator[str]:
        """What does not fit, one sentence each."""
        classes = self.family.classes
        if classes is not None and (beyond := [number for number in self.names if number >= classes]):
            shown = ", ".join(f"{number} ({self.names[number]})" for number in beyond[:5])
            yield f"there are names for the classes {shown}, and the graph has {classes} classes, from 0 on"

    def _numbers(self, classes: list[int | str] | list[str], field: str) -> list[list[int]]:
        """Of each of `classes`: by its number, or by its name, which several may have."""
        by_name: dict[str, list[int]] = {}
        for known, name in self.names.items():
            by_name.setdefault(name, []).append(known)
        most = self.family.classes
        numbers = []
        for place, one in enumerate(classes):
            found = by_name.get(one, []) if isinstance(one, str) else [one]
            if not found and isinstance(one, str) and one.isascii() and one.isdecimal():
                found = [int(one)]
            if not found or found[0] < 0 or (most is not None and found[0] >= most):
                where = f"#/params/{field}/{place if field == 'classes' else one}"
                listed = list(self.names.values())[:_PROBLEM_KEYS]
                more = ", ..." if len(self.names) > _PROBLEM_KEYS else ""
                told = f"it has {', '.join(listed)}{more}" if listed else ""
                said = f"the model has no class {one!r}; {told or f'its classes are numbers below {most}'}"
                raise ValidationFailed(said, [{"detail": said, "pointer": where}], code="class-unknown")
            numbers.append(found)
        return numbers


def _first(*values: float | None) -> float:
    """The first that is said."""
    return next(value for value in values if value is not None)
