"""Whether Fleet finds what each library finds with the same graph in the same photographs.

    python benchmarks/parity_detection.py FOLDER PHOTOGRAPH...

FOLDER is what `reference_detection.py` and its like have filled. Prints the table of docs/how-to/detect-objects.md, and
fails where a box is more than half a pixel away, a score more than 0.001, or one was found by one side alone.
"""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from parity_model import opened, references
from PIL import Image, ImageOps

from worker.contract import Picture
from worker.detection.detector import Detector
from worker.detection.found import Found
from worker.detection.looking import Looking
from worker.detection.params import DetectionParams

MOST_PIXELS, MOST_SCORE = 0.5, 1e-3


def main(folder: Path, photographs: list[Path]) -> int:
    print(
        "| network | against | read as | boxes | largest difference of boxes, pixels | of scores | on one side alone |"
    )
    print("|---|---|---|---|---|---|---|")
    held = True
    for home, said in references(folder):
        held = compared(home, said, photographs) and held
    return 0 if held else 1


def compared(home: Path, said: dict[str, Any], photographs: list[Path]) -> bool:
    model = opened(home, "object-detection")
    detector = Detector(model)
    params = DetectionParams(confidence=said["confidence"], **said["params"])
    looking = Looking.of(detector, model, params, None, room=1)
    boxes, pixels, scores, alone = 0, 0.0, 0.0, 0
    for photograph in photographs:
        upright = ImageOps.exif_transpose(Image.open(photograph))
        picture = Picture(np.asarray(upright.convert("RGB")))
        found = looking.find(picture, lambda stage: nullcontext(), lambda done, total: None)
        theirs = said["answers"][photograph.name]
        boxes += len(theirs)
        differences = matched(found, theirs, picture.size)
        alone += differences[2]
        pixels, scores = max(pixels, differences[0]), max(scores, differences[1])
    figures = f"{boxes} | {pixels:.1e} | {scores:.1e} | {alone}"
    print(f"| {home.name} | {said['library']} | `{detector.family.name}` | {figures} |", flush=True)
    return boxes > 0 and pixels <= MOST_PIXELS and scores <= MOST_SCORE and not alone


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
