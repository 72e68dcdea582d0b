"""Whether Fleet finds what each library finds with the same graph in the same photographs.

    python benchmarks/parity_detection.py FOLDER PHOTOGRAPH...

FOLDER is what `reference_detection.py` has filled. Prints the table of docs/how-to/detect-objects.md, and fails where a
box is more than half a pixel away, a score more than 0.001, or one was found by one side alone.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageOps

from fleet.settings import CPU_PROVIDER
from worker.contract import Picture
from worker.detection.detector import Detector
from worker.detection.found import Found
from worker.detection.params import DetectionParams
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.stop import StopToken
from worker.tasks import find_tasks

MOST_PIXELS, MOST_SCORE = 0.5, 1e-3


def main(folder: Path, photographs: list[Path]) -> int:
    print("| network | read as | boxes | largest difference of boxes, pixels | of scores | found by one side alone |")
    print("|---|---|---|---|---|---|")
    held = True
    for reference in sorted(folder.glob("*/reference.json")):
        held = compared(reference, photographs) and held
    return 0 if held else 1


def compared(reference: Path, photographs: list[Path]) -> bool:
    said = json.loads(reference.read_text("utf-8"))
    home = reference.parent
    (home / "model.yaml").write_text(yaml.safe_dump({"task": "object-detection"}), "utf-8")
    version = read_versions(home, find_tasks())[0]
    setup = SessionSetup([CPU_PROVIDER])
    model = LoadedModel(version, Session(version.graph, setup), setup).for_run(StopToken())
    detector = Detector(model)
    params = DetectionParams(confidence=said["confidence"])
    boxes, pixels, scores, alone = 0, 0.0, 0.0, 0
    for photograph in photographs:
        upright = ImageOps.exif_transpose(Image.open(photograph))
        picture = Picture(np.asarray(upright.convert("RGB")))
        found = detector.find(picture, detector.wanted(params, None), model, lambda stage: nullcontext())
        theirs = said["answers"][photograph.name]
        boxes += len(theirs)
        differences = matched(found, theirs, picture.size)
        alone += differences[2]
        pixels, scores = max(pixels, differences[0]), max(scores, differences[1])
    print(f"| {home.name} | `{detector.family.name}` | {boxes} | {pixels:.1e} | {scores:.1e} | {alone} |", flush=True)
    return pixels <= MOST_PIXELS and scores <= MOST_SCORE and not alone


def matched(found: Found, theirs: list[dict[str, Any]], size: tuple[int, int]) -> tuple[float, float, int]:
    """As sets, by class and score: equal scores come in any order."""
    mine = [(int(c), float(s), b) for c, s, b in zip(found.classes, found.scores, found.boxes, strict=True)]
    pixels, scores, alone = 0.0, 0.0, 0
    for one in theirs:
        box = np.clip(np.array(one["box"]).reshape(2, 2), 0, size).reshape(4)
        near = [(abs(score - one["score"]) + np.abs(b - box).max(), at) for at, (c, score, b) in enumerate(mine)
                if c == one["class"]]  # fmt: skip
        if not near or min(near)[0] > 5:
            alone += 1
            continue
        _, score, mine_box = mine.pop(min(near)[1])
        pixels = max(pixels, float(np.abs(mine_box - box).max()))
        scores = max(scores, abs(score - one["score"]))
    return pixels, scores, alone + len(mine)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
