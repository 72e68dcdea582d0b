"""Whether Fleet classifies photographs as each library does.

    python benchmarks/parity_classification.py FOLDER PHOTOGRAPH...

FOLDER is what `reference_classification.py` has filled. Prints the table of docs/how-to/classify-pictures.md, and fails
where a logit is more than 0.0001 away from the library's, as a part of the largest.
"""

import json
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from fleet.settings import CPU_PROVIDER
from worker.classification.classifier import Classifier
from worker.contract import Array, Model
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import SessionSetup
from worker.stop import StopToken
from worker.tasks import find_tasks

MOST = 1e-4


def main(folder: Path, photographs: list[Path]) -> int:
    print("| network | library | photographs | largest difference of a logit | the same best class |")
    print("|---|---|---|---|---|")
    held = True
    for reference in sorted(folder.glob("*/reference.json")):
        held = compared(reference, photographs) and held
    return 0 if held else 1


def compared(reference: Path, photographs: list[Path]) -> bool:
    said = json.loads(reference.read_text("utf-8"))
    home = reference.parent
    (home / "model.yaml").write_text(yaml.safe_dump({"task": "image-classification"}), "utf-8")
    version = read_versions(home, find_tasks())[0]
    model = LoadedModel.opened(version, SessionSetup([CPU_PROVIDER])).for_run(StopToken())
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
