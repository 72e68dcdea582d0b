"""Embeddings become a result: a few vectors lie in it as base64, more in an artifact that `numpy.load` reads."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from fleet.embeddings import MAX_INLINE_BYTES, MAX_LISTED_TOKENS, TOKENS_NAME, VECTORS_NAME, EmbeddingResult, Refusal
from worker.contract import Array, Encoded, EncodedFile

_MEDIA_TYPE = "application/octet-stream"
_FLOAT = np.dtype("<f4")
#: Rows that are written at a time.
_ROWS = 4096


@dataclass
class Embeddings:
    """Vectors of texts, in the order of the texts."""

    #: float32 [texts, dimensions].
    vectors: Array
    #: int32 [texts]: tokens that were fed of each, special ones included.
    tokens: Array
    normalized: bool
    #: Texts of which a part was cut off.
    truncated: int
    #: Of a joined job: the requests that have no vectors here.
    refused: list[Refusal] | None = None
    #: Of a part: the tokens that the whole request may have.
    most_tokens: int | None = None
    #: Where the vectors lie already as they are to be stored.
    file: "VectorFile | None" = None


class VectorFile:
    """Vectors that are written in their order to a file in NumPy's format, and never lie in memory together."""

    def __init__(self, path: Path, count: int, dimensions: int) -> None:
        """Takes the disk for all of them. Raises OSError when it is full."""
        self.path = path
        self._shape = (count, dimensions)
        self._file = path.open("wb")
        self.offset = _write_header(self._file, self._shape, _FLOAT)
        try:
            os.posix_fallocate(self._file.fileno(), 0, self.offset + count * dimensions * _FLOAT.itemsize)
        except OSError:
            self._file.close()
            raise

    def append(self, vectors: Array) -> None:
        """The next ones, float32 [texts, dimensions]."""
        self._file.write(np.ascontiguousarray(vectors, _FLOAT).data)

    def close(self) -> None:
        self._file.close()

    @property
    def vectors(self) -> Array:
        """All of them, read as they are looked at."""
        return np.asarray(np.memmap(self.path, _FLOAT, "r", self.offset, self._shape))


def encode_embeddings(outcome: Embeddings, folder: Path) -> Encoded:
    """See `fleet.embeddings.EmbeddingResult` for the result's form."""
    vectors, tokens = outcome.vectors, outcome.tokens
    files, data, artifact, offset = [], None, None, 0
    if outcome.file is not None:
        artifact, offset = VECTORS_NAME, outcome.file.offset
        files.append(EncodedFile(artifact, outcome.file.path, _MEDIA_TYPE))
    elif vectors.size * 4 <= MAX_INLINE_BYTES:
        data = base64.b64encode(np.ascontiguousarray(vectors, "<f4").tobytes()).decode()
    else:
        artifact = VECTORS_NAME
        offset = _write(folder / artifact, vectors, _FLOAT)
        files.append(EncodedFile(artifact, folder / artifact, _MEDIA_TYPE))
    listed = tokens.tolist() if len(tokens) <= MAX_LISTED_TOKENS else None
    if listed is None:
        _write(folder / TOKENS_NAME, tokens, np.dtype("<i4"))
        files.append(EncodedFile(TOKENS_NAME, folder / TOKENS_NAME, _MEDIA_TYPE))
    result = EmbeddingResult(
        count=vectors.shape[0],
        dimensions=vectors.shape[1],
        normalized=outcome.normalized,
        total_tokens=int(tokens.sum(dtype=np.int64)),
        truncated=outcome.truncated,
        tokens=listed,
        data=data,
        artifact=artifact,
        offset=offset,
        refused=outcome.refused,
        most_tokens=outcome.most_tokens,
    )
    return Encoded(result.model_dump(exclude_none=True), files)


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    """The byte at which the numbers begin."""
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return file.tell()


def _write(path: Path, array: Array, dtype: np.dtype[np.generic]) -> int:
    """A file in NumPy's format; the byte at which the numbers begin. The array may be larger than the memory."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with path.open("wb") as file:
        offset = _write_header(file, array.shape, dtype)
        for row in range(0, len(array), _ROWS):
            file.write(np.ascontiguousarray(array[row : row + _ROWS], dtype).data)
    return offset
