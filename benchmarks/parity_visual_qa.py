"""Whether questions about pictures are answered as transformers' BLIP answers them, and captions made, word by word.

    python benchmarks/parity_visual_qa.py FOLDER

FOLDER is what `reference_visual_qa.py` has filled. Prints the table of docs/how-to/ask-about-pictures.md, and fails
where a word differs. No token that these networks can say is left out of a text: where all words are equal, all tokens
are.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from parity_model import opened, references
from PIL import Image

from worker.contract import Model, Picture
from worker.pictures.items import Item, Pictures
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks.visual_qa import TASK
from worker.vqa.settings import VqaParams


def main(folder: Path) -> int:
    print("| network | beams | answers | another word | captions | another word |")
    print("|---|---|---|---|---|---|")
    held = True
    for home, said in references(folder):
        model = opened(home, TASK.name)
        for place, beams in enumerate(said["beams"]):
            held = compared(home, said, model, place, beams) and held
    return 0 if held else 1


def compared(home: Path, said: dict[str, Any], model: Model, place: int, beams: int) -> bool:
    """`place`: that of `beams` among the answers."""
    how = {"num_beams": beams, "max_new_tokens": said["max_new_tokens"]}
    questions: dict[str, dict[str, str]] = defaultdict(dict)
    for one in said["answers"]:
        questions[one["image"]][one["question"]] = one["answers"][place]
    differ = [0, 0]
    for image, theirs in questions.items():
        # All of a picture in one request, as a client would ask them.
        mine = asked(model, Path(said["pictures"][image]), question=list(theirs), **how)["answers"]
        differ[0] += sum(one["answer"] != theirs[one["question"]] for one in mine)
    for one in said["captions"]:
        mine = asked(model, Path(said["pictures"][one["image"]]), kind="caption", prompt=one["prompt"], **how)
        differ[1] += mine["answer"] != one["captions"][place]
    counts = f"{len(said['answers'])} | {differ[0]} | {len(said['captions'])} | {differ[1]}"
    print(f"| {home.name} | {beams} | {counts} |", flush=True)
    return not any(differ)


def asked(model: Model, picture: Path, **params: Any) -> dict[str, Any]:
    pixels = Picture(np.asarray(Image.open(picture).convert("RGB")))
    items = [Item(picture.name, lambda admit, check: pixels)]
    made = TASK.run(Pictures(items, many=False), VqaParams(**params), model, JobProgress(StopToken()))
    answer: Any = made.answers[0].result
    return dict(answer)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
