"""Whether Fleet's vectors of pictures and texts are those of transformers and timm, and its scores of labels, too.

    python benchmarks/parity_image_embedding.py FOLDER PHOTOGRAPH...

FOLDER is what `reference_image_embedding.py` has filled. Prints the table of docs/how-to/embed-pictures.md, and fails
where a cosine is below 0.99999 or a score more than 0.0001 away.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from parity_model import opened, references
from PIL import Image

from worker.contract import Array, Model, Picture
from worker.embedding.settings import ImageEmbeddingParams
from worker.pictures.items import Item, Pictures
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks.image_embedding import TASK

LEAST_COSINE, MOST_SCORE = 0.99999, 1e-4


@dataclass
class Differences:
    """Of one model: least cosines, and the largest difference of a score; None where there is nothing to compare."""

    pictures: float = 1.0
    views: float | None = None
    texts: float | None = None
    scores: float | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        cosines = [cosine for cosine in (self.pictures, self.views, self.texts) if cosine is not None]
        return not self.faults and min(cosines) >= LEAST_COSINE and (self.scores or 0) <= MOST_SCORE


def main(folder: Path, photographs: list[Path]) -> int:
    print("| model | least cosine of pictures | of views and scales | of texts | largest difference of a score |")
    print("|---|---|---|---|---|")
    held = True
    for home, said in references(folder):
        found = compared(home, said, photographs)
        cells = [f"{cosine:.8f}" if cosine is not None else "" for cosine in (found.pictures, found.views, found.texts)]
        score = f"{found.scores:.1e}" if found.scores is not None else ""
        print(f"| {home.name} | {' | '.join(cells)} | {score} |", flush=True)
        for fault in found.faults:
            print(f"  {fault}", file=sys.stderr)
        held = held and found.held
    return 0 if held else 1


def compared(home: Path, said: dict[str, Any], photographs: list[Path]) -> Differences:
    model = opened(home, TASK.name, said["pipeline"])
    found = Differences(faults=list(TASK.check(model)))
    if found.faults:
        return found
    for photograph in photographs:
        theirs = said["pictures"][photograph.name]
        mine = asked(model, photograph, normalize=False)
        found.pictures = min(found.pictures, cosine(mine, theirs["vector"]))
        for name, params in (("flip", {"augment": "flip"}), ("scaled", {"scales": said["scales"]})):
            if theirs.get(name):
                found.views = min(found.views or 1.0, cosine(asked(model, photograph, **params), theirs[name]))
        if said["scores"]:
            away = np.abs(scores(model, photograph, said) - said["scores"][photograph.name]).max()
            found.scores = max(found.scores or 0.0, float(away))
    if "texts" in said:
        texts = outcome(model, None, texts=said["texts"], normalize=False)["facts"]["texts"]["embeddings"]
        found.texts = min(cosine(one, other) for one, other in zip(texts, said["text_vectors"], strict=True))
    return found


def asked(model: Model, photograph: Path, **params: Any) -> Array:
    return np.array(outcome(model, photograph, **params)["result"]["embedding"])


def scores(model: Model, photograph: Path, said: dict[str, Any]) -> Array:
    """Of the labels, in their order."""
    result = outcome(model, photograph, labels=said["labels"], template=said["template"])["result"]
    by_label = {one["class_name"]: one["confidence"] for one in result["predictions"]}
    return np.array([by_label[label] for label in said["labels"]])


def outcome(model: Model, photograph: Path | None, **params: Any) -> dict[str, Any]:
    items = []
    if photograph is not None:
        picture = Picture(np.asarray(Image.open(photograph).convert("RGB")))
        items = [Item(photograph.name, lambda admit, check: picture)]
    made = TASK.run(Pictures(items, many=not items), ImageEmbeddingParams(**params), model, JobProgress(StopToken()))
    return {"result": made.answers[0].result if made.answers else None, "facts": made.facts}


def cosine(one: Any, other: Any) -> float:
    mine, theirs = np.array(one, np.float64), np.array(other, np.float64)
    return float(mine @ theirs / (np.linalg.norm(mine) * np.linalg.norm(theirs)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
