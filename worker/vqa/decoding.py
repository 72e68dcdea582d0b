"""Decoding, one token a pass: what is fed, and what is kept between passes.

Rows march in step: all have the same number of tokens, so nothing is filled up and no position has to be told. A row
that has ended is cut from every tensor, and the others go on.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array, Model
from worker.vqa.forms import Form, Part, PastKey
from worker.vqa.roles import Speaker


class Decoding:
    """Rows that are being decoded; of one thread."""

    def __init__(self, speaker: Speaker, graphs: Mapping[str, Model], states: Array) -> None:
        """states: float [rows, tokens, width], what the words are about; without filling."""
        self._speaker = speaker
        self._graphs = graphs
        self._states = states
        self._ids = np.zeros((len(states), 0), np.int64)
        #: Keys and values: of the text so far, and of the states, which stay as the first pass made them.
        self._past: dict[PastKey, Array] = {}

    @property
    def ids(self) -> Array:
        """int64 [rows, tokens]: all so far."""
        return self._ids

    def feed(self, tokens: Array) -> Array:
        """One pass over int64 [rows, n] more tokens -> float32 [rows, words], the logits of the token after them."""
        first, further = self._speaker.first, self._speaker.further
        cached = bool(self._past)
        form = further if cached and further is not None else first
        self._ids = np.concatenate([self._ids, tokens], axis=1)
        outputs = ran(self._graphs[form.name], self._feeds(form, tokens if cached else self._ids, cached=cached))
        if further is not None:
            for key, name in form.present.items():
                if key[1] == "decoder" or not cached:
                    self._past[key] = self._grown(form, key, outputs[name])
        logits: Array = outputs[form.output.name][:, -1].astype(np.float32, copy=False)
        return logits

    def _grown(self, form: Form, key: PastKey, values: Array) -> Array:
        """Raises ModelError for a cache of the text that has not as many tokens as the text."""
        tokens = self._ids.shape[1]
        if key[1] == "decoder" and (values.ndim != 4 or values.shape[2] != tokens):
            raise ModelError(
                f"{form.name}.onnx gives {form.present[key]} {list(values.shape)} after {tokens} tokens: it must be "
                f"[rows, heads, {tokens}, width], the tokens before the new one included",
                code="unknown-output",
            )
        return values

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows from here on, in this order; one that stands there twice is two."""
        taken = np.asarray(rows, np.int64)
        if np.array_equal(taken, np.arange(len(self._ids))):
            return
        self._ids, self._states = self._ids[taken], self._states[taken]
        self._past = {key: values[taken] for key, values in self._past.items()}

    def _feeds(self, form: Form, ids: Array, *, cached: bool) -> dict[str, Array]:
        rows, tokens = self._ids.shape
        made = {
            Part.IDS: ids,
            # Of all tokens so far, those in the cache included.
            Part.MASK: np.ones((rows, tokens), np.int64),
            Part.STATES: self._states,
            Part.STATES_MASK: np.ones(self._states.shape[:2], np.int64),
            Part.BRANCH: np.asarray([cached]),
        }
        feeds = {tensor.name: made[part].astype(tensor.dtype, copy=False) for part, tensor in form.inputs.items()}
        for key, tensor in form.past.items():
            if cached:
                feeds[tensor.name] = self._past[key].astype(tensor.dtype, copy=False)
            else:
                # Of a merged graph, whose other branch does not look at it.
                _, heads, _, width = tensor.shape
                feeds[tensor.name] = np.zeros((rows, max(heads, 1), 1, max(width, 1)), tensor.dtype)
        return feeds


def ran(model: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """One run, which rows of other jobs may share where their shapes are the same and the author asks for batches."""
    sizes = {len(feed) for feed in feeds.values()}
    rows = next(iter(sizes))
    shared = len(sizes) == 1 and rows <= (model.max_batch_size or rows)
    return model.batched(feeds) if shared else model.run(feeds)
