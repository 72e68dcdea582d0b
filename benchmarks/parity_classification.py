"""Whether Fleet classifies photographs as each library does.

    python benchmarks/parity_classification.py FOLDER PHOTOGRAPH...

FOLDER is what `reference_classification.py` has filled. Prints the table of docs/how-to/classify-pictures.md, and fails
where a logit is more than 0.0001 away from the library's, as a part of the largest.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from parity_model import opened, references
from PIL import Image

from worker.classification.classifier import Classifier
from worker.contract import Array, Model

MOST = 1e-4


def main(folder: Path, photographs: list[Path]) -> int:
    print("| network | library | photographs | largest difference of a logit | the same best class |")
    print("|---|---|---|---|---|")
    held = True
    for home, said in references(folder):
        held = compared(home, said, photographs) and held
    return 0 if held else 1


def compared(home: Path, said: dict[str, Any], photographs: list[Path]) -> bool:
    model = opened(home, "image-classification")
    difference, same = 0.0, 0
    for photograph in photographs:
        mine, theirs = numbers(model, photograph), np.array(said["answers"][photograph.name])
        difference = max(difference, float(np.abs(mine - theirs).max() / np.abs(theirs).max()))
        same += int(mine.argmax() == theirs.argmax())
    print(f"| {home.name} | {said['library']} | {len(photographs)} | {difference:.1e} | {same} |", flush=True)
    return difference <= MOST and same == len(photographs)


def numbers(model: Model, photograph: Path) -> Array:
    """What the graph says of each class: logits, or shares where it ends in softmax."""
    classifier = model.derived(Classifier)
    feed = classifier.feed
    pixels = feed.preprocess.pixels(np.asarray(Image.open(photograph).convert("RGB")))
    return np.asarray(feed.runs(model, feed.numbers([pixels]))[classifier.output.name][0])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
