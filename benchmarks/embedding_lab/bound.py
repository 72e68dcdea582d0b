"""What the bare runtime makes of the texts when nothing else is in its way: ready token ids, perfect buckets."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleet.cpus import usable_cpus
from fleet.settings import CPU_PROVIDER
from worker.contract import Array
from worker.engine.session import Session, SessionSetup
from worker.stop import StopToken
from worker.text.batches import filled


@dataclass(frozen=True)
class Way:
    """`texts` to a run, or so many that it has at most `tokens`; on all cores together, or each core its own runs."""

    texts: int | None
    tokens: int | None
    core_each: bool

    def __str__(self) -> str:
        size = f"{self.texts} texts" if self.texts else f"{self.tokens} tokens"
        return f"runs of {size}, {'a core each' if self.core_each else 'all cores'}"


SIZES: list[tuple[int | None, int | None]] = [(8, None), (32, None), (None, 512)]
WAYS = [Way(texts, tokens, core_each) for core_each in (False, True) for texts, tokens in SIZES]


class Bound:
    """Sessions for both ways to use the cores."""

    def __init__(self, graph: Path) -> None:
        cores = usable_cpus()
        self._together = Session(graph, SessionSetup([CPU_PROVIDER], intra_op_threads=cores, spin=False))
        self._each = Session(graph, SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False))
        self._cores = ThreadPoolExecutor(cores)

    def run(self, ids: Sequence[Array], way: Way) -> None:
        """All texts once."""
        session = self._each if way.core_each else self._together
        batches = batched(sorted(ids, key=len, reverse=True), way)
        if way.core_each:
            list(self._cores.map(lambda batch: run_bare(session, batch), batches))
        else:
            for batch in batches:
                run_bare(session, batch)

    def alone(self, ids: Array) -> None:
        """One text, on all cores."""
        run_bare(self._together, [ids])


def batched(ids: Sequence[Array], way: Way) -> list[Sequence[Array]]:
    """Longest first: the first one of a batch says how many fit."""
    batches, at = [], 0
    while at < len(ids):
        count = way.texts or max(1, (way.tokens or 1) // len(ids[at]))
        batches.append(ids[at : at + count])
        at += count
    return batches


def run_bare(session: Session, ids: Sequence[Array]) -> Array:
    """The vectors of the tokens: what a text's vector is made of is left out."""
    padded, mask = filled(ids, max(map(len, ids)), 0)
    feeds = {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}
    return session.run(feeds, StopToken())["last_hidden_state"]


def best_way(bound: Bound, ids: Sequence[Array], passes: int) -> Way:
    """The fastest one; prints what each reached."""
    rates: dict[Way, float] = {}
    bound.run(ids, WAYS[0])
    for _ in range(passes):
        for way in WAYS:
            began = time.perf_counter()
            bound.run(ids, way)
            rates[way] = max(rates.get(way, 0.0), len(ids) / (time.perf_counter() - began))
    for way, rate in rates.items():
        print(f"  {way!s:32}{rate:>8.1f} texts/s")
    return max(rates, key=lambda way: rates[way])
