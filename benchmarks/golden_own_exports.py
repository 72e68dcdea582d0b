"""Writes tests/support/own_export_goldens.json: what these libraries' own functions make of numbers of chance.

    python benchmarks/golden_own_exports.py TARGET SUPER_GRADIENTS YOLOV7 ULTRALYTICS_8.2

The last three are the folders of which reference_yolo_nas.py, reference_yolov7.py and reference_older_rtdetr.py speak;
imports nothing of ours. The tests draw the same numbers anew.
"""

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import reference_older_rtdetr
import reference_yolo_nas
import reference_yolov7
import torch
from golden_detection import chance
from PIL import Image
from reference_detection import told
from unused_modules import empty_if_missing
from whole_torchvision import import_torchvision

#: Of pictures (width, height), of the input, and of the picture to which boxes come back.
SIZES = [(810, 1080), (600, 400), (47, 33), (333, 1000)]
SIDE, BACK = 64, (300, 171)
PLACES, CLASSES = 84, 5


def main(target: Path, packages: list[Path]) -> None:
    _torchvision = import_torchvision()
    sys.path[:0] = [str(package) for package in packages]
    unused = (reference_yolo_nas.UNUSED, reference_yolov7.UNUSED, reference_older_rtdetr.UNUSED)
    empty_if_missing(*(name for names in unused for name in names))
    for name, kind in (("float", float), ("int", int), ("object", object)):
        setattr(np, name, kind)
    made = {
        "yolo-nas": [yolo_nas(own_data) for own_data in (False, True)],
        "yolov7": [yolov7(classes) for classes in (3, 1)],
        "older-rtdetr": older_rtdetr(),
        "in-graph": {"pictures": [{"size": size, "sha256": in_graph(size)} for size in SIZES]},
    }
    target.write_text(json.dumps(made), "utf-8")


def yolo_nas(own_data: bool) -> dict[str, Any]:
    from super_gradients.training.models.detection_models.pp_yolo_e.post_prediction_callback import (
        PPYoloEPostPredictionCallback,
    )
    from super_gradients.training.processing import processing

    side, margin = (SIDE, SIDE), (SIDE - 4, SIDE - 4)
    steps = [
        processing.DetectionLongestMaxSizeRescale(margin),
        processing.DetectionCenterPadding(side, 114),
    ]
    if own_data:
        steps = [
            processing.ReverseImageChannels(),
            processing.DetectionLongestMaxSizeRescale(side),
            processing.DetectionBottomRightPadding(side, 114),
        ]
    whole = processing.ComposeProcessing([*steps, processing.StandardizeImage(255.0), processing.ImagePermute()])
    raw = chance(31 + own_data, PLACES, CLASSES, SIDE)
    corners = np.concatenate([raw[:2] - raw[2:4] / 2, raw[:2] + raw[2:4] / 2]).T
    suppress = PPYoloEPostPredictionCallback(
        score_threshold=0.25, nms_threshold=0.65 if own_data else 0.7, nms_top_k=1024, max_predictions=300
    )
    (rows,) = suppress((torch.from_numpy(corners)[None], torch.from_numpy(raw[4:].T.copy())[None]))
    pixels, notes = whole.preprocess_image(image=picture(BACK))
    back = reference_yolo_nas.back(rows.numpy(), whole, notes, pixels.shape)
    hashes = [{"size": size, "sha256": digest(whole.preprocess_image(image=picture(size))[0])} for size in SIZES]
    return {"own_data": own_data, "seed": 31 + own_data, "pictures": hashes, "found": short(back)}


def yolov7(classes: int) -> dict[str, Any]:
    from yolov7.utils.datasets import letterbox
    from yolov7.utils.general import non_max_suppression, scale_coords

    raw = chance(41 + classes, 3 * PLACES, 1 + classes, SIDE).T[None].copy()
    (rows,) = non_max_suppression(torch.from_numpy(raw.copy()), 0.25, 0.45)
    rows[:, :4] = scale_coords((SIDE, SIDE), rows[:, :4], BACK[::-1])
    hashes = []
    for size in SIZES:
        laid = letterbox(picture(size), (SIDE, SIDE), auto=False)[0]
        hashes.append({"size": size, "sha256": digest(over_255(laid))})
    found = told(rows[:, :4], rows[:, 4], rows[:, 5])
    return {"classes": classes, "seed": 41 + classes, "pictures": hashes, "found": short(found)}


def older_rtdetr() -> dict[str, Any]:
    from ultralytics.data.augment import LetterBox
    from ultralytics.models.rtdetr.predict import RTDETRPredictor

    raw = chance(51, 300, CLASSES, 1).T[None].copy()
    asked = SimpleNamespace(
        args=SimpleNamespace(conf=0.25, classes=None), batch=([""],), model=SimpleNamespace(names={})
    )
    (result,) = RTDETRPredictor.postprocess(asked, torch.from_numpy(raw), None, [picture(BACK)])
    rows = result.boxes.data
    filled = LetterBox((SIDE, SIDE), auto=False, scaleFill=True)
    hashes = [{"size": size, "sha256": digest(over_255(filled(image=picture(size))))} for size in SIZES]
    found = told(rows[:, :4], rows[:, 4], rows[:, 5])
    return {"seed": 51, "pictures": hashes, "found": short(found)}


def in_graph(size: tuple[int, int]) -> str:
    from torchvision.transforms import Compose, Resize, ToTensor

    return digest(Compose([Resize((SIDE, SIDE)), ToTensor()])(Image.fromarray(picture(size))).numpy())


def picture(size: tuple[int, int]) -> Any:
    return np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), np.uint8)


def over_255(pixels: Any) -> Any:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def short(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one | {"box": [round(v, 5) for v in one["box"]], "score": round(one["score"], 7)} for one in found]


def digest(pixels: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels, np.float32).tobytes()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
