"""Whether two decoders are halves of one: what they say with a cache must be what the first says without it.

By their tensors a decoder of answers and the cached half of a captioning decoder fit each other, and speak nonsense.
"""

from collections.abc import Mapping

import numpy as np

from fleet.errors import ModelError
from worker.contract import Model
from worker.vqa.decoding import Decoding
from worker.vqa.forms import Part
from worker.vqa.roles import Speaker

#: Of how far the numbers of the words lie apart: float16 and int8 stay far below it, other weights far above.
_MOST_DIFFERENCE = 0.1
_TOKENS = 3


def refuse_strangers(speaker: Speaker, graphs: Mapping[str, Model], start: int, words: int, width: int) -> None:
    """width: of what is looked at, where the graph does not say it. Raises ModelError `graphs-incomplete`."""
    if speaker.further is None:
        return
    looked_at = speaker.first.inputs.get(Part.STATES)
    width = looked_at.shape[2] if looked_at is not None and looked_at.shape[2] > 0 else width
    states = np.random.default_rng(0).normal(size=(1, 4, width)).astype(np.float32)
    ids = (start + np.arange(_TOKENS, dtype=np.int64)[None]) % words
    whole = Decoding(Speaker(speaker.first, None), graphs, states).feed(ids)
    stepped = Decoding(speaker, graphs, states)
    for at in range(_TOKENS):
        logits = stepped.feed(ids[:, at : at + 1])
    if not (np.isfinite(whole).all() and np.isfinite(logits).all()):
        # That is told of each answer.
        return
    if np.abs(logits - whole).max() > _MOST_DIFFERENCE * np.ptp(whole):
        raise ModelError(
            f"{speaker.further.name} goes on otherwise than {speaker.first.name} began: the two are of different "
            "exports, or their cache is. Lay the one that belongs to it beside it, or say in model.yaml under "
            "pipeline.graphs which two belong together",
            code="graphs-incomplete",
        )
