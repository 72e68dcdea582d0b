"""Text embedding: a vector for each text, as sentence-transformers would make it.

    texts -> prompt -> tokens -> runs of about equal length -> pooling -> cut and one unit long

Each arrow is a module of `worker/text/`; see docs/how-to/embed-texts.md.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, WithJsonSchema

from fleet.contracts import MediaKind, ResultKind, Stage
from fleet.embeddings import TASK_NAME, JobParams, Refusal, fault
from fleet.errors import FleetError
from worker.contract import Array, Model, Progress, TaskParams
from worker.media.embeddings import Embeddings
from worker.media.texts import GivenTexts, Lines, given_texts
from worker.text.bulk import BulkEmbedding
from worker.text.encoder import Encoder
from worker.text.joined import tokenized_each
from worker.text.settings import EmbeddingSettings
from worker.text.tokens import Tokens

#: Vectors of less than this need not ask for memory.
_SMALL_BYTES = 4 * 1024**2
_INPUT = "#/params/input"
#: Loose: what is wrong inside is told by `parse_texts`, with a code and a pointer.
_INPUT_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "array"}, {"type": "null"}],
    "default": None,
    "description": "a text, a list of texts, the token ids of one text, or a list of such lists",
}


class TextParams(JobParams, TaskParams):
    """Texts stand in `input`, or come as the job's input: a JSON document, or JSON lines."""

    input: Annotated[Any, WithJsonSchema(_INPUT_SCHEMA)] = Field(default=None)


class TextEmbedding:
    """A vector for each text."""

    name: ClassVar[str] = TASK_NAME
    accepts: ClassVar[MediaKind] = MediaKind.TEXT
    returns: ClassVar[ResultKind] = ResultKind.EMBEDDINGS
    Settings = EmbeddingSettings
    Params = TextParams

    def run(self, media: GivenTexts | Lines | None, params: TextParams, model: Model, progress: Progress) -> Embeddings:
        """Raises ValidationFailed, naming the text and what is wrong with it, and ModelError."""
        with progress.stage(Stage.PREPARE):
            if media is not None and params.input is not None:
                raise fault(
                    "texts are given twice: in `input` of the params, and as an input", code="input-twice", where=_INPUT
                )
            encoder = model.derived(Encoder)
            if isinstance(media, Lines):
                return BulkEmbedding(media, params, model, encoder, progress).run()
            given = media or given_texts(params.input, _INPUT, params.part.number_from if params.part else 0)
            if params.first or params.count is not None:
                raise fault("`first` and `count` choose from JSON lines only", code="not-lines", where="#/params/first")
            return _embedded(given, params, model, encoder, progress)

    def check(self, model: Model) -> Iterator[str]:
        """Tries the whole way: the publisher's files, the tokenizer, its highest id in the graph, the pooling."""
        try:
            encoder = model.derived(Encoder)
            ids = [np.asarray([encoder.tokenizer.highest_id], np.int64)]
            encoder.embed(Tokens(ids, 0), np.zeros((1, encoder.width), np.float32), model, lambda done: None)
        except FleetError as error:
            said = error.message
            if error.code in {"inference-invalid-input", "inference-failed"}:
                said += f"; it was fed the highest id of the tokenizer: do {model.settings.tokenizer} and graph fit?"
            yield said
            return
        allowed = encoder.settings.dimensions
        if allowed != "any" and (longer := [length for length in allowed if length > encoder.width]):
            yield f"pipeline.dimensions has {longer}, and the model's vectors have {encoder.width} numbers"


def _embedded(given: GivenTexts, params: TextParams, model: Model, encoder: Encoder, progress: Progress) -> Embeddings:
    texts, where = given.texts, given.where
    count = params.part.of if params.part else len(texts)
    _refuse_many(count, encoder.settings.max_texts, what="texts", code="too-many-texts", where=where)
    dimensions = encoder.dimensions(params.dimensions)
    tokenize = partial(
        encoder.tokenizer.tokenize,
        truncate=params.truncate or encoder.settings.truncate,
        where=given.pointer,
        prompt=encoder.prompt(params, texts),
    )
    refused: list[Refusal] | None = None
    if params.joined is None:
        tokens = tokenize(texts, first=given.number_from)
    else:
        tokens, refused = tokenized_each(texts, params.joined, tokenize)
    _refuse_many(tokens.total, encoder.settings.max_total_tokens, what="tokens", code="too-many-tokens", where=where)
    done = 0

    def advance(texts_done: int) -> None:
        nonlocal done
        done += texts_done
        progress.advance(done, len(tokens.ids))

    vectors = _room_for(len(tokens.ids), dimensions, progress)
    with progress.stage(Stage.INFER):
        encoder.embed(tokens, vectors, model, advance)
    most = encoder.settings.max_total_tokens if params.part else None
    return Embeddings(vectors, tokens.counts, encoder.recipe.normalize, tokens.truncated, refused, most)


def _refuse_many(count: int, most: int, *, what: str, code: str, where: str) -> None:
    if count > most:
        raise fault(
            f"the request has {count:,} {what}, and the model takes at most {most:,} at once: send fewer, or JSON "
            "lines as an input",
            code=code,
            where=where,
            count=count,
            most=most,
        )


def _room_for(texts: int, dimensions: int, progress: Progress) -> Array:
    size = texts * dimensions * 4
    if size < _SMALL_BYTES:
        return np.zeros((texts, dimensions), np.float32)
    # Runs are small whatever the number of texts; they, the parts' texts and their tokens fit in as much again.
    besides = 16 * _SMALL_BYTES
    room = progress.admit(
        f"{texts:,} vectors of {dimensions} numbers", size + besides, lean_bytes=besides, scratch_bytes=size
    )
    return room.zeros((texts, dimensions), np.float32)


TASK = TextEmbedding()
