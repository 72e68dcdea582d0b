"""Where the vectors of a job go: into its answers as numbers, or into a file that `numpy.load` reads."""

import base64
from contextlib import closing
from typing import Any, Literal

import numpy as np

from fleet.embeddings import MAX_INLINE_BYTES, VECTORS_NAME
from worker.contract import Array, EncodedFile, Progress
from worker.embedding.settings import ImageEmbeddingParams
from worker.media.embeddings import VectorFile
from worker.pictures.answers import ItemAnswers

TEXT_VECTORS_NAME = "text_embeddings.npy"
MEDIA_TYPE = "application/octet-stream"
Form = Literal["json", "npy", "none"]
_VECTOR = "embedding"


def form_of(params: ImageEmbeddingParams, count: int, width: int) -> Form:
    """For `count` pictures."""
    if params.vectors != "auto":
        return params.vectors
    if params.labels is not None:
        return "none"
    return "json" if count <= 1 or fits(count, width) else "npy"


def fits(count: int, width: int) -> bool:
    """Whether so many vectors may stand in the record."""
    return count * width * 4 <= MAX_INLINE_BYTES


def answer_bytes(form: Form, width: int) -> int:
    """Memory that the vector of one answer takes until the job ends."""
    return {"json": 56 * width, "npy": 8 * width, "none": 0}[form]


def listed(vector: Array) -> list[float]:
    """The shortest numbers that are read as the same ones of single precision."""
    return [float(text) for text in vector.astype(np.float32, copy=False).astype(str)]


def told(vector: Array, form: Form, *, normalized: bool) -> dict[str, Any]:
    """Of one picture. Of `npy` the vector is base64 of float32, little-endian, until `into_file` takes it out."""
    facts: dict[str, Any] = {"embedding_dim": len(vector), "normalized": normalized}
    if form == "none":
        return {}
    packed = base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
    return {_VECTOR: listed(vector) if form == "json" else packed} | facts


def into_file(outcome: ItemAnswers, progress: Progress, width: int, *, normalized: bool) -> None:
    """Takes the vectors out of the answers of a job of the form `npy`: each then has the number of its `row`."""
    with_vectors = [answer.result for answer in outcome.answers if answer.result is not None]
    file = VectorFile(progress.folder / VECTORS_NAME, len(with_vectors), width)
    with closing(file):
        for row, result in enumerate(with_vectors):
            packed = base64.b64decode(result.pop(_VECTOR))
            file.append(np.frombuffer(packed, "<f4"))
            result["row"] = row
    outcome.files.append(EncodedFile(VECTORS_NAME, file.path, MEDIA_TYPE))
    outcome.facts["embeddings"] = {
        "artifact": VECTORS_NAME,
        "count": len(with_vectors),
        "dimensions": width,
        "normalized": normalized,
    }


def of_texts(vectors: Array, tokens: Array, truncated: int, progress: Progress, *, normalized: bool) -> "TextAnswers":
    """What is told of the texts of a request, and the file that their vectors lie in, where they are many."""
    said: dict[str, Any] = {
        "count": len(vectors),
        "dimensions": vectors.shape[1],
        "normalized": normalized,
        "tokens": tokens.tolist(),
        "truncated": truncated,
    }
    if fits(*vectors.shape):
        return said | {"embeddings": [listed(vector) for vector in vectors]}, []
    file = VectorFile(progress.folder / TEXT_VECTORS_NAME, *vectors.shape)
    with closing(file):
        file.append(vectors)
    return said | {"artifact": TEXT_VECTORS_NAME}, [EncodedFile(TEXT_VECTORS_NAME, file.path, MEDIA_TYPE)]


TextAnswers = tuple[dict[str, Any], list[EncodedFile]]
