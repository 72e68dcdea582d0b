"""Object detection: boxes around what a model knows, as the model's own library would find them.

    picture -> the family's resizing -> one run -> the family's decoding -> clipped, named, as shares of the picture

or, where a request wants that, parts and views of the picture one by one (worker/detection/looking.py).

Each family is a file of `worker/detection/families/`; see docs/how-to/detect-objects.md.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from fleet.contracts import MediaKind, ResultKind
from fleet.errors import FleetError, ValidationFailed
from fleet.model_settings import ModelSettings
from worker.contract import Model, Picture, Progress
from worker.detection.answer import answer_of
from worker.detection.detector import Detector
from worker.detection.drawing import drawn
from worker.detection.looking import Looking, Steps
from worker.detection.params import DetectionParams
from worker.detection.settings import DetectionSettings
from worker.pictures.items import Drawn, ItemAnswers, Pictures, Stages, each

#: They are held until the job ends.
_MOST_PREVIEWS = 100


class ObjectDetection:
    """Boxes, classes and scores of each picture."""

    name: ClassVar[str] = "object-detection"
    accepts: ClassVar[MediaKind] = MediaKind.IMAGE
    returns: ClassVar[ResultKind] = ResultKind.ITEMS
    Settings = DetectionSettings
    Params = DetectionParams

    def __init__(self, confidence: float | None = None) -> None:
        """confidence: what counts where neither a request nor a model's author says; None: what its library does."""
        self._confidence = confidence

    def configured(self, settings: ModelSettings) -> "ObjectDetection":
        return ObjectDetection(settings.model_confidence_threshold)

    def run(self, media: Pictures, params: DetectionParams, model: Model, progress: Progress) -> ItemAnswers:
        """Raises ValidationFailed `class-unknown` or `too-many-previews`, and what is wrong with the only picture."""
        if params.preview and len(media.items) > _MOST_PREVIEWS:
            raise ValidationFailed(
                f"previews are drawn of at most {_MOST_PREVIEWS} pictures, and the job has {len(media.items):,}",
                code="too-many-previews",
            )
        detector = model.derived(Detector)
        run_bytes = detector.run_bytes(model, progress)
        # Half of it: the picture and what is cut out of it take their part, too.
        room = progress.memory_bytes // 2 // max(1, run_bytes)
        looking = Looking.of(detector, model, params, self._confidence, room)
        steps = Steps(progress, len(media.items))
        names = {**detector.names, **detector.renamed(params.class_mapping)}

        def one(picture: Picture, stages: Stages) -> dict[str, Any] | Drawn:
            found = looking.find(picture, stages, steps.of_picture())
            answer = answer_of(found, picture.size, names)
            if not looking.plain:
                answer["looks"] = looking.told(picture)
            return Drawn(answer, drawn(picture, found, names)) if params.preview else answer

        return each(
            media,
            params,
            model,
            progress,
            one,
            run_bytes=looking.lanes * run_bytes,
            held=looking.held,
            in_turn=not looking.plain,
            hinges_on=f"confidence {self._confidence}",
        )

    def check(self, model: Model) -> Iterator[str]:
        """Recognises the family, and holds the names of the classes against the graph."""
        try:
            yield from model.derived(Detector).faults()
        except FleetError as error:
            yield error.message

    def told(self, model: Model) -> Iterator[str]:
        """What was found out about a model that `check` has nothing against."""
        return model.derived(Detector).told()


TASK = ObjectDetection()
