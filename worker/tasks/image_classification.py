"""Image classification: what is in a picture, as the library that published the model would say.

    picture -> the publisher's resizing, cropping and normalising -> one run -> scores -> the best classes

See docs/how-to/classify-pictures.md.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from fleet.contracts import MediaKind, ResultKind
from fleet.errors import FleetError
from worker.classification.classifier import Classifier
from worker.classification.settings import ClassificationParams, ClassificationSettings
from worker.contract import Model, Picture, Progress
from worker.pictures.items import ItemAnswers, Pictures, Stages, each


class ImageClassification:
    """Classes and scores of each picture."""

    name: ClassVar[str] = "image-classification"
    accepts: ClassVar[MediaKind] = MediaKind.IMAGE
    returns: ClassVar[ResultKind] = ResultKind.ITEMS
    Settings = ClassificationSettings
    Params = ClassificationParams

    def run(self, media: Pictures, params: ClassificationParams, model: Model, progress: Progress) -> ItemAnswers:
        """Raises ValidationFailed `class-unknown`, `views-unsupported`, ModelError, and the only picture's fault."""
        classifier = model.derived(Classifier)
        classifier.check_params(params)

        def one(picture: Picture, stages: Stages) -> dict[str, Any]:
            return classifier.classify(picture, params, model, stages)

        run_bytes, shrink = classifier.run_bytes(params, model, progress), classifier.feed.preprocess.shrink
        return each(media, params, model, progress, one, run_bytes=run_bytes, shrink=shrink)

    def check(self, model: Model) -> Iterator[str]:
        """Feeds it a black picture, and holds the names of the classes against the graph."""
        try:
            yield from model.derived(Classifier).faults()
        except FleetError as error:
            yield error.message

    def told(self, model: Model) -> list[str]:
        """What was found out about a model that `check` has nothing against."""
        return model.derived(Classifier).told()


TASK = ImageClassification()
