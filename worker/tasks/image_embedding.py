"""Image embedding: a vector for each picture, as the library that published the model would make it.

    picture -> the publisher's resizing, cropping and normalising -> one run or more -> pooling -> one unit long
    texts   -> the model's tokenizer -> its text tower                -> vectors in the same space
    labels  -> texts by a template   -> ... -> which of them a picture shows

See docs/how-to/embed-pictures.md.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from fleet.contracts import MediaKind, ResultKind, Stage
from fleet.embeddings import fault, parse_texts
from fleet.errors import FleetError
from worker.contract import Model, Picture, Progress
from worker.embedding.answers import answer_bytes, form_of, into_file, of_texts, told
from worker.embedding.embedder import ImageEmbedder
from worker.embedding.settings import ImageEmbeddingParams, ImageEmbeddingSettings
from worker.embedding.text_tower import TextTower
from worker.embedding.units import units
from worker.embedding.zero_shot import Similarity, labels_of
from worker.pictures.items import ItemAnswers, Pictures, Stages, each


class ImageEmbedding:
    """A vector for each picture and text, and which labels a picture shows."""

    name: ClassVar[str] = "image-embedding"
    accepts: ClassVar[MediaKind] = MediaKind.IMAGE
    returns: ClassVar[ResultKind] = ResultKind.ITEMS
    several_graphs: ClassVar[bool] = True
    Settings = ImageEmbeddingSettings
    Params = ImageEmbeddingParams

    def run(self, media: Pictures, params: ImageEmbeddingParams, model: Model, progress: Progress) -> ItemAnswers:
        """Raises ValidationFailed for what is wrong with params, ModelError, and the only picture's fault."""
        embedder = model.derived(ImageEmbedder)
        _check_words(params, embedder)
        if params.labels is not None and not media.items:
            raise fault(
                "labels are for pictures to be told apart by, and the job has none: send pictures with them, or leave "
                "`labels` out and ask for vectors of words as `texts`",
                code="labels-without-pictures",
                where="#/params/labels",
            )
        with progress.stage(Stage.PREPARE):
            embedder.check_params(params, model)
            labels = labels_of(params, model)
        normalized = embedder.normalized(params)
        form = form_of(params, len(media.items), embedder.width)
        outcome = ItemAnswers([], media.many)
        if media.items:

            def one(picture: Picture, stages: Stages) -> dict[str, Any]:
                vector = embedder.embed(picture, params, model, stages)
                judged = labels.judged(vector) if labels else {}
                return told(vector, form, normalized=normalized) | judged

            kept = len(media.items) * 4 * embedder.width if form == "npy" else 0
            outcome = each(
                replace(media, scratch_bytes=media.scratch_bytes + kept),
                params,
                model,
                progress,
                one,
                run_bytes=embedder.run_bytes(params, model, progress),
                # Scores of labels are counted as they come, and the vectors beside them.
                answer_bytes=0 if labels else answer_bytes(form, embedder.width),
                shrink=embedder.shrink(params),
            )
            if form == "npy":
                with progress.stage(Stage.FINISH):
                    into_file(outcome, progress, embedder.width, normalized=normalized)
        _add_texts(outcome, params, model, progress, unit=embedder.settings.normalize)
        return outcome

    def check(self, model: Model) -> Iterator[str]:
        """Feeds it a picture of noise, and a text where it takes some."""
        try:
            embedder = model.derived(ImageEmbedder)
            if embedder.towers.text is not None:
                model.derived(TextTower)
        except FleetError as error:
            # A graph that is both towers is of use without one of them.
            if error.code != "tokenizer-missing" or not embedder.towers.joint:
                yield error.message

    def told(self, model: Model) -> Iterator[str]:
        """What was found out about a model that `check` has nothing against."""
        embedder = model.derived(ImageEmbedder)
        own = ", one unit long by themselves" if embedder.unit_inside else ""
        yield f"vectors of {embedder.width} numbers{own}: {embedder.reading.told()}"
        yield embedder.feed.told()
        if embedder.towers.text is None:
            return
        where = "in the same graph" if embedder.towers.joint else f"in {embedder.towers.text}.onnx"
        try:
            yield f"{where}: {model.derived(TextTower).told()}"
        except FleetError as error:
            yield f"texts and labels cannot be asked for: {error.message}"
            return
        try:
            yield model.derived(Similarity).told()
        except FleetError as error:
            yield f"labels cannot be asked for: {error.message}"


def _check_words(params: ImageEmbeddingParams, embedder: ImageEmbedder) -> None:
    for name, given in (("texts", params.texts), ("labels", params.labels)):
        if given is not None and embedder.towers.text is None:
            raise fault(
                f"the model has no text tower, so it takes no {name}: only models with one, such as CLIP and SigLIP, "
                "have a space that pictures share with texts",
                code="texts-unsupported",
                where=f"#/params/{name}",
            )


def _add_texts(
    outcome: ItemAnswers, params: ImageEmbeddingParams, model: Model, progress: Progress, *, unit: bool
) -> None:
    if params.texts is None:
        return
    texts = [str(text) for text in parse_texts(params.texts, "#/params/texts")]
    unit = unit if params.normalize is None else params.normalize
    with progress.stage(Stage.INFER):
        made = model.derived(TextTower).embed(texts, params.truncate, "#/params/texts/{}".format, model)
    vectors = units(made.vectors) if unit else made.vectors
    said, files = of_texts(vectors, made.tokens, made.truncated, progress, normalized=unit)
    outcome.facts["texts"] = said
    outcome.files += files


TASK = ImageEmbedding()
