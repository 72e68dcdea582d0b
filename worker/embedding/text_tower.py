"""Texts into the space of the pictures: what is asked for by words, and the labels of zero-shot classification."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array, Model
from worker.embedding.embedder import ImageEmbedder
from worker.embedding.readings import text_reading
from worker.embedding.settings import TextSide
from worker.embedding.towers import IDS, MASK, POSITIONS, TYPES, text_inputs
from worker.text.batches import filled
from worker.text.settings import Truncation
from worker.text.tokens import TextTokenizer

_MOST_ROWS = 16
#: Vectors that are kept for the next request with the same labels.
_KEPT_BYTES = 8 * 1024**2
#: Tokenizers without a limit say a number like 1e30.
_NO_LIMIT = 10_000_000


@dataclass(frozen=True)
class TextVectors:
    """Of several texts, in their order: float32 [texts, width] as the tower gives them, and how many were cut."""

    vectors: Array
    #: int32 [texts]: tokens of each, without what fills up.
    tokens: Array
    truncated: int


class TextTower:
    """Thread-safe. Made once per loaded model that has one: `model.derived(TextTower)`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError: `tokenizer-missing`, `max-tokens-unknown`, `padding-unknown`, `towers-mismatch`, ..."""
        embedder = model.derived(ImageEmbedder)
        towers = embedder.towers
        if towers.text is None:
            raise ModelError("the model has no text tower", code="texts-unsupported")
        said: TextSide = embedder.settings.text
        graph = model.graphs[towers.text]
        self.settings = said
        self._name = towers.text
        #: A picture that is fed beside texts that stand alone.
        self._beside = (
            {embedder.feed.name: embedder.feed.numbers([np.zeros((*embedder.feed.probe_size, 3), np.uint8)])}
            if towers.joint
            else None
        )
        self._inputs = text_inputs(graph)
        self.output = text_reading(graph.outputs, said.output, embedder.family, embedder.reading, joint=towers.joint)
        fixed = self._inputs[IDS].shape[1]
        told = embedder.files.object(said.tokenizer_config)
        config = embedder.config.get("text_config")
        config = config if isinstance(config, dict) else embedder.config
        most = _max_tokens(said, told, config, fixed)
        self.tokenizer = _tokenizer(model, said, told, config, most)
        siglip = embedder.family.startswith("siglip")
        # What follows the last token of a text is not seen by CLIP's, which looks back only.
        heeded = MASK in self._inputs or embedder.family.startswith("clip")
        self.pad_to = _pad_to(said, fixed, most, siglip=siglip, heeded=heeded)
        self._attend_padding = siglip if said.attend_padding is None else said.attend_padding
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Array] = OrderedDict()
        width = self._run([np.zeros(1, np.int64)], model).shape[1]
        if width != embedder.width:
            raise ModelError(
                f"texts become {width} numbers ({self.output}) and pictures {embedder.width} "
                f"({embedder.reading.told()}): the towers do not lie in one space",
                code="towers-mismatch",
            )
        self._most_kept = max(1, _KEPT_BYTES // (4 * width))

    def embed(
        self, texts: Sequence[str], truncate: Truncation | None, where: Callable[[int], str], model: Model
    ) -> TextVectors:
        """Raises ValidationFailed: `text-too-long`, `text-empty`; ModelError `result-not-finite`."""
        tokens = self.tokenizer.tokenize(list(texts), truncate or self.settings.truncate, where)
        keys = [ids.tobytes() for ids in tokens.ids]
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = {key: ids for key, ids in zip(keys, tokens.ids, strict=True) if key not in found}
        # Those of about the same length together, so that little is computed on what only fills up.
        order = sorted(missing, key=lambda key: len(missing[key]))
        rows = self._rows(model)
        for at in range(0, len(order), rows):
            some = order[at : at + rows]
            found |= zip(some, self._run([missing[key] for key in some], model), strict=True)
        self._keep(found)
        return TextVectors(np.stack([found[key] for key in keys]), tokens.counts, tokens.truncated)

    def run(self, ids: Sequence[Array], model: Model, others: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs for these texts, with `others` fed beside them."""
        return model.graphs[self._name].run(self._feeds(ids) | dict(others))

    def told(self) -> str:
        """For who checks a model."""
        filled_up = f"filled up to {self.pad_to} tokens" if self.pad_to else "filled up to the longest"
        return f"texts of at most {self.tokenizer.max_tokens} tokens, {filled_up}: output {self.output}"

    def _rows(self, model: Model) -> int:
        limit = self._inputs[IDS].shape[0]
        if limit > 0:
            return limit
        return min(_MOST_ROWS, (model.max_batch_size if self._beside is None else 0) or _MOST_ROWS)

    def _run(self, ids: Sequence[Array], model: Model) -> Array:
        """float32 [texts, width]."""
        feeds = self._feeds(ids)
        graph = model.graphs[self._name]
        outputs = graph.batched(feeds) if self._beside is None else graph.run(feeds | self._beside)
        vectors = outputs[self.output].astype(np.float32, copy=False)
        if vectors.ndim != 2 or len(vectors) < len(ids):
            raise ModelError(
                f"{self.output} has the shape {list(vectors.shape)} for {len(ids)} texts, and not [texts, width]",
                code="pooling-shape",
            )
        vectors = vectors[: len(ids)]
        if not np.isfinite(vectors).all():
            raise ModelError("the model answered with numbers that are not finite", code="result-not-finite")
        return vectors

    def _feeds(self, ids: Sequence[Array]) -> dict[str, Array]:
        # A graph of one number of texts is given that many.
        rows = max(len(ids), self._inputs[IDS].shape[0])
        given = [*ids, *[ids[0]] * (rows - len(ids))]
        length = self.pad_to or max(map(len, given))
        made, mask = filled(given, length, self.tokenizer.pad_id)
        feeds = {
            IDS: made,
            MASK: np.ones_like(mask) if self._attend_padding else mask,
            TYPES: np.zeros_like(made),
            POSITIONS: np.broadcast_to(np.arange(length), made.shape),
        }
        return {tensor.name: feeds[role].astype(tensor.dtype, copy=False) for role, tensor in self._inputs.items()}

    def _keep(self, found: Mapping[bytes, Array]) -> None:
        with self._lock:
            for key, vector in found.items():
                # A row of its own: a view would keep the whole run's rows.
                self._kept[key] = vector.copy() if vector.base is not None else vector
                self._kept.move_to_end(key)
            while len(self._kept) > self._most_kept:
                self._kept.popitem(last=False)


def _max_tokens(said: TextSide, told: Mapping[str, Any], config: Mapping[str, Any], fixed: int) -> int:
    limits = [told.get("model_max_length"), config.get("max_position_embeddings")]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    known = [said.max_tokens] if said.max_tokens else known
    known += [limit for limit in (fixed, said.pad_to or 0) if limit > 0]
    if not known:
        raise ModelError(
            "nothing says how many tokens a text may have: set pipeline.text.max_tokens in model.yaml",
            code="max-tokens-unknown",
        )
    return min(known)


def _tokenizer(
    model: Model, said: TextSide, told: Mapping[str, Any], config: Mapping[str, Any], most: int
) -> TextTokenizer:
    path = model.file(said.tokenizer)
    if path is None:
        raise ModelError(
            f"there is no {said.tokenizer} in the model's folder, nor in its version's", code="tokenizer-missing"
        )
    # transformers' class for it does that by itself, whatever the file says.
    lower = told.get("tokenizer_class") == "Siglip2Tokenizer" if said.lower_case is None else said.lower_case
    tokenizer = TextTokenizer(path, lower_case=lower, max_tokens=most, pad_id=said.pad_id)
    if said.pad_id is None:
        token = told.get("pad_token")
        named = tokenizer.id_of(token.get("content") if isinstance(token, dict) else token)
        config_id = config.get("pad_token_id")
        if named is not None:
            tokenizer.pad_id = named
        elif not tokenizer.pads and isinstance(config_id, int) and config_id >= 0:
            tokenizer.pad_id = config_id
    return tokenizer


def _pad_to(said: TextSide, fixed: int, most: int, *, siglip: bool, heeded: bool) -> int:
    if fixed > 0:
        return fixed
    if said.pad_to is not None:
        return said.pad_to
    if siglip:
        return most
    if not heeded:
        raise ModelError(
            "whether texts are filled up is not known, and the graph takes no mask: say in model.yaml under "
            f"pipeline.text.pad_to {most} where the model was trained so, as SigLIP, or 0, as CLIP",
            code="padding-unknown",
        )
    return 0
