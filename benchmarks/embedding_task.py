"""What the task text-embedding costs besides its model: 256 texts through the task, against the bare runtime.

Needs the model's weights in its folder (--model). The bare runtime gets the same tokens in perfect buckets: sorted, in
batches of 8, filled up to the longest only, on one session with all cores. Rounds alternate, since machines wander.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from parity_embeddings import MODEL, complete, loaded
from varied_texts import mixed_texts

from fleet.settings import CPU_PROVIDER
from worker.contract import Array
from worker.engine.loaded import LoadedModel
from worker.engine.session import Session, SessionSetup
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks.text_embedding import TASK, TextParams
from worker.text.batches import filled
from worker.text.encoder import Encoder


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, default=MODEL)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    model = loaded(complete(chosen.model))
    encoder: Encoder = model.for_run(StopToken()).derived(Encoder)
    texts = mixed_texts(256, lambda text: len(encoder.tokenizer.tokenize([text], "end", str).ids[0]))
    short = min(texts, key=len)
    bare = Session(model.version.graph, SessionSetup([CPU_PROVIDER], intra_op_threads=os.cpu_count() or 1, spin=False))
    ids = sorted(encoder.tokenizer.tokenize(texts, "end", str).ids, key=len)
    cases: dict[str, tuple[int, Callable[[], object]]] = {
        "bare runtime, 256 texts": (256, lambda: [run_bare(bare, ids[at : at + 8]) for at in range(0, 256, 8)]),
        "task, 256 texts": (256, lambda: run_task(model, texts)),
        "bare runtime, one short text": (1, lambda: run_bare(model.session, ids[:1])),
        "task, one short text": (1, lambda: run_task(model, [short])),
    }
    for _, work in cases.values():
        work()
    wall: dict[str, list[float]] = {name: [] for name in cases}
    cpu: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(chosen.rounds):
        for name, (count, work) in cases.items():
            times = 1 if count > 1 else 20
            began, spent = time.perf_counter(), time.process_time()
            for _ in range(times):
                work()
            wall[name].append((time.perf_counter() - began) / times / count)
            cpu[name].append((time.process_time() - spent) / times / count)
    print(f"{sum(map(len, ids))} tokens in 256 texts; medians and best of {chosen.rounds} rounds")
    print(f"{'':32}{'texts/s':>10}{'best':>10}{'CPU s per 1,000':>18}{'best':>8}")
    for name in cases:
        rates = [1 / seconds for seconds in wall[name]]
        spent_s = [1000 * seconds for seconds in cpu[name]]
        middle, best = statistics.median(rates), max(rates)
        print(f"{name:32}{middle:>10.1f}{best:>10.1f}{statistics.median(spent_s):>18.2f}{min(spent_s):>8.2f}")


def run_bare(session: Session, ids: list[Array]) -> dict[str, Array]:
    padded, mask = filled(ids, max(map(len, ids)), 0)
    feeds = {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}
    return session.run(feeds, StopToken())


def run_task(model: LoadedModel, texts: list[str]) -> object:
    stop = StopToken()
    return TASK.run(None, TextParams(input=texts, truncate="end"), model.for_run(stop), JobProgress(stop))


if __name__ == "__main__":
    main()
