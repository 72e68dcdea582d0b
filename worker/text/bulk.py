"""JSON lines, of which there may be millions: part by part from a file of texts to a file of vectors.

    read -> tokenise -> embed -> keep -> write

Each part that is finished is kept for the attempts after this one (`worker.contract.Parts`). Parts always have the same
lines, so that their vectors are the same to the last digit whether they were made in one go or not.
"""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from fleet.contracts import Stage
from fleet.embeddings import VECTORS_NAME, EmbeddingParams, Texts, fault
from worker.contract import Array, Model, Parts, Progress
from worker.media.embeddings import Embeddings, VectorFile
from worker.media.texts import Lines, line_pointer
from worker.text.encoder import Encoder
from worker.text.tokens import Tokens

#: Lines that are read, tokenised, embedded and kept together: enough to sort by length, few enough to do again.
PART_LINES = 2048
#: Vectors of less than this lie in memory, and need not ask for it.
_SMALL_BYTES = 4 * 1024**2
#: Runs are small whatever the number of texts; they, two parts' texts and their tokens fit in this.
_BESIDES_BYTES = 64 * 1024**2
_CHECKED = "checked"


@dataclass(frozen=True)
class EmbeddedPart:
    """What is kept of a part: float32 [texts, dimensions], int32 [texts], and how many texts were cut."""

    vectors: Array
    tokens: Array
    truncated: int

    def packed(self) -> bytes:
        file = io.BytesIO()
        np.savez(file, vectors=self.vectors, tokens=self.tokens, truncated=np.int64(self.truncated))
        return file.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> "EmbeddedPart":
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(arrays["vectors"], arrays["tokens"], int(arrays["truncated"]))


class BulkEmbedding:
    """One job's. `run` raises ValidationFailed, naming the line and what is wrong with it, and as `Encoder.embed`."""

    def __init__(
        self, lines: Lines, params: EmbeddingParams, model: Model, encoder: Encoder, progress: Progress
    ) -> None:
        self._lines = lines
        self._params = params
        self._model = model
        self._encoder = encoder
        self._progress = progress
        self._dimensions = encoder.dimensions(params.dimensions)
        self._truncate = params.truncate or encoder.settings.truncate
        self._parts: Parts = progress.parts(f"lines 1 {PART_LINES} {self._dimensions} {encoder.identity}")

    def run(self) -> Embeddings:
        total = self._checked()
        size = total * self._dimensions * 4
        if size < _SMALL_BYTES:
            return self._in_memory(total)
        self._progress.admit(
            f"{total:,} texts with vectors of {self._dimensions} numbers",
            _BESIDES_BYTES + 8 * total,
            scratch_bytes=size + 4 * total + self._lines.path.stat().st_size,
        )
        file = VectorFile(self._progress.folder / VECTORS_NAME, total, self._dimensions)
        tokens, truncated = [], 0
        with closing(file):
            for part in self._embedded(total):
                file.append(part.vectors)
                tokens.append(part.tokens)
                truncated += part.truncated
        return Embeddings(file.vectors, np.concatenate(tokens), self._normalized, truncated, file=file)

    def _in_memory(self, total: int) -> Embeddings:
        parts = list(self._embedded(total))
        vectors = np.concatenate([part.vectors for part in parts])
        tokens = np.concatenate([part.tokens for part in parts])
        return Embeddings(vectors, tokens, self._normalized, sum(part.truncated for part in parts))

    @property
    def _normalized(self) -> bool:
        return self._encoder.recipe.normalize

    def _checked(self) -> int:
        """The number of texts. All is read once before the first run: a fault in the last line is told before the work.

        What an earlier attempt has found without fault is not looked at again.
        """
        if (found := self._parts.read(_CHECKED)) is not None:
            return int(json.loads(found)["texts"])
        total = 0
        for first, texts in self._given():
            self._progress.check()
            total += len(texts)
            # Where nothing is cut off, or nothing is a text, it may be found too long: else there is nothing to find.
            if self._truncate == "refuse" or not isinstance(texts[0], str):
                self._tokenized(first, texts)
        if not total:
            first = self._params.first
            raise fault(f"there is no line from {first} on", code="input-empty", where=line_pointer(first))
        if total > PART_LINES:
            self._parts.keep(_CHECKED, json.dumps({"texts": total}).encode())
        return total

    def _given(self) -> Iterator[tuple[int, Texts]]:
        return self._lines.parts(PART_LINES, self._params.first, self._params.count)

    def _tokenized(self, first: int, texts: Texts) -> Tokens:
        prompt = self._encoder.prompt(self._params, texts)
        return self._encoder.tokenizer.tokenize(texts, self._truncate, line_pointer, prompt=prompt, first=first)

    def _embedded(self, total: int) -> Iterator[EmbeddedPart]:
        """Part after part. While one runs, the next one is read and tokenised, or found done."""
        given, done = self._given(), 0

        def following() -> tuple[str, Tokens | EmbeddedPart] | None:
            part = next(given, None)
            if part is None:
                return None
            name = f"lines-{part[0]:012}"
            kept = self._parts.read(name)
            return name, EmbeddedPart.unpacked(kept) if kept is not None else self._tokenized(*part)

        with ThreadPoolExecutor(1, "tokenizing") as ahead:
            coming = ahead.submit(following)
            while (found := coming.result()) is not None:
                coming = ahead.submit(following)
                name, part = found
                if isinstance(part, Tokens):
                    part = self._run(part, done, total)
                    if total > PART_LINES:
                        self._parts.keep(name, part.packed())
                done += len(part.tokens)
                self._progress.advance(done, total)
                yield part

    def _run(self, tokens: Tokens, done: int, total: int) -> EmbeddedPart:
        vectors = np.zeros((len(tokens.ids), self._dimensions), np.float32)

        def advance(texts_done: int) -> None:
            nonlocal done
            done += texts_done
            self._progress.advance(done, total)

        with self._progress.stage(Stage.INFER):
            self._encoder.embed(tokens, vectors, self._model, advance)
        return EmbeddedPart(vectors, tokens.counts, tokens.truncated)
