"""Texts by sentence-transformers, timed: run with a Python that has it, imports nothing of ours.

python timed_reference.py MODEL_FOLDER TEXTS.json: says its version, then for each line it reads embeds all texts and
writes the seconds that it took, and the seconds of processor. PYTHONPATH leads to the folder of `whole_torchvision`.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

from whole_torchvision import import_torchvision


def main(model: str, texts: str) -> None:
    _torchvision = import_torchvision()
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(model, device="cpu", local_files_only=True)
    given = json.loads(Path(texts).read_text("utf-8"))
    found.encode(given[:32], show_progress_bar=False)
    print(f"sentence-transformers {version('sentence-transformers')}, torch {version('torch')}", flush=True)
    for _ in sys.stdin:
        began, spent = time.perf_counter(), time.process_time()
        found.encode(given, show_progress_bar=False)
        print(time.perf_counter() - began, time.process_time() - spent, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
