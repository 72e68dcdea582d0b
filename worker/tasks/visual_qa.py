"""Visual question answering: what is asked about a picture, and captions, as BLIP in transformers would say it.

    picture -> the publisher's preprocessing -> vision encoder, once
            -> question encoder -> decoder, token by token -> answer
            ->                     decoder, token by token -> caption

A version is several graphs; each arrow but the first is one or two of them. See docs/how-to/ask-about-pictures.md.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np

from fleet.contracts import MediaKind, ResultKind
from fleet.errors import FleetError
from worker.contract import Model, Picture, Progress
from worker.pictures.items import ItemAnswers, Pictures, Stages, each
from worker.vqa.answerer import Answerer
from worker.vqa.settings import VqaParams, VqaSettings


class VisualQa:
    """An answer to each question about each picture, or a caption of it."""

    name: ClassVar[str] = "visual-qa"
    accepts: ClassVar[MediaKind] = MediaKind.IMAGE
    returns: ClassVar[ResultKind] = ResultKind.ITEMS
    several_graphs: ClassVar[bool] = True
    Settings = VqaSettings
    Params = VqaParams

    def run(self, media: Pictures, params: VqaParams, model: Model, progress: Progress) -> ItemAnswers:
        """Raises ValidationFailed as `asked_of`, ModelError, and what is wrong with the only picture."""
        answerer = model.derived(Answerer)
        asked = answerer.asked(params)

        def one(picture: Picture, stages: Stages) -> dict[str, Any]:
            return answerer.answer(picture, asked, model, stages, progress.check)

        run_bytes, shrink = answerer.run_bytes(asked, model, progress), answerer.pictures.preprocess.shrink
        return each(media, params, model, progress, one, run_bytes=run_bytes, shrink=shrink)

    def check(self, model: Model) -> Iterator[str]:
        """Asks all that can be asked about a black picture."""
        try:
            answerer = model.derived(Answerer)
            picture = Picture(np.zeros((32, 32, 3), np.uint8))
            for asked in answerer.trials():
                answerer.answer(picture, asked, model, lambda stage: nullcontext(), lambda: None)
        except FleetError as error:
            yield error.message

    def told(self, model: Model) -> Iterator[str]:
        """Which graph was taken for what, and how pictures and texts are fed."""
        yield from model.derived(Answerer).told()


TASK = VisualQa()
