"""Vectors by sentence-transformers, for `parity_embeddings.py`: run with a Python that has it, imports nothing of ours.

python reference_embeddings.py MODEL_FOLDER TEXTS.json VECTORS.npy BATCH_SIZE
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from whole_torchvision import import_torchvision


def main(model: str, texts: str, vectors: str, batch_size: str) -> None:
    _torchvision = import_torchvision()
    import numpy
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(model, device="cpu", local_files_only=True)
    given = json.loads(Path(texts).read_text("utf-8"))
    numpy.save(vectors, found.encode(given, batch_size=int(batch_size), show_progress_bar=False))
    print(f"sentence-transformers {version('sentence-transformers')}, torch {version('torch')}")


if __name__ == "__main__":
    main(*sys.argv[1:])
