"""Writes tests/support/detection_goldens.json: what the libraries' own functions make of numbers of chance.

    python benchmarks/golden_detection.py tests/support/detection_goldens.json

Run with a Python that has ultralytics and transformers, imports nothing of ours. The tests draw the same numbers anew.
"""

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from whole_torchvision import import_torchvision

#: Of pictures (width, height), and of the input that they are laid into.
SIZES = [(810, 1080), (1280, 720), (600, 400), (31, 57), (1, 200), (64, 64), (640, 640), (333, 1000)]


def chance(seed: int, places: int, classes: int, side: int) -> np.ndarray:
    """float32 [4 + classes, places]: boxes in a square of `side` pixels, and scores."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0, side, (2, places))
    sides = random.uniform(side / 16, side / 3, (2, places))
    scores = random.uniform(0, 1, (classes, places)) ** 4
    return np.concatenate([centres, sides, scores]).astype(np.float32)


def main(target: Path) -> None:
    _torchvision = import_torchvision()
    made: dict[str, Any] = {"libraries": {name: version(name) for name in ("ultralytics", "transformers", "torch")}}
    made["letterbox"] = [letterbox(size, free) for size in SIZES for free in (False, True)]
    asked: list[dict[str, Any]] = [
        {},
        {"conf_thres": 0.6},
        {"iou_thres": 0.2},
        {"agnostic": True},
        {"classes": [1, 3]},
        {"max_det": 5},
        {"conf_thres": 0.001, "iou_thres": 0.9},
    ]
    made["suppression"] = [suppression(seed, options) for seed, options in enumerate(asked)]
    made["detr"] = [detr(seed, softmax) for seed, softmax in ((11, False), (12, True))]
    made["edges"] = [edges(size) for size in (*SIZES, (1333, 800), (800, 1333), (4000, 1000))]
    target.write_text(json.dumps(made), "utf-8")


def letterbox(size: tuple[int, int], free: bool) -> dict[str, Any]:
    from ultralytics.data.augment import LetterBox

    picture = np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    laid = LetterBox((320, 320), auto=free, stride=32)(image=picture)
    return {"size": size, "free": free, "shape": laid.shape, "sha256": hashlib.sha256(laid.tobytes()).hexdigest()}


def suppression(seed: int, options: dict[str, Any]) -> dict[str, Any]:
    from ultralytics.utils import nms, ops

    raw = torch.from_numpy(chance(seed, 84, 4, 64))[None]
    told = {"conf_thres": 0.25, "iou_thres": 0.7} | options
    (found,) = nms.non_max_suppression(raw.clone(), **told)
    size = (300, 171)
    boxes = ops.scale_boxes((64, 64), found[:, :4].clone(), size[::-1])
    rows = torch.cat([boxes, found[:, 4:]], 1)
    return {"seed": seed, "options": told, "size": size, "rows": rows.tolist()}


def detr(seed: int, softmax: bool) -> dict[str, Any]:
    import transformers as hf

    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (1, 20, 5)).astype(np.float32)
    boxes = random.uniform(0.1, 0.9, (1, 20, 4)).astype(np.float32)
    outputs = hf.models.detr.modeling_detr.DetrObjectDetectionOutput(
        logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(boxes)
    )
    processor = hf.DetrImageProcessor() if softmax else hf.RTDetrImageProcessor()
    (found,) = processor.post_process_object_detection(outputs, 0.5, [(480, 640)])
    rows = torch.cat([found["boxes"], found["scores"][:, None], found["labels"][:, None]], 1)
    return {"seed": seed, "softmax": softmax, "size": (640, 480), "rows": rows.tolist()}


def edges(size: tuple[int, int]) -> dict[str, Any]:
    from transformers.models.detr.image_processing_detr import get_size_with_aspect_ratio
    from transformers.models.yolos.image_processing_pil_yolos import get_size_with_aspect_ratio_yolos as in_patches

    height, width = get_size_with_aspect_ratio(size[::-1], 800, 1333)
    whole_height, whole_width = in_patches(size[::-1], 800, 1333)
    patches = (int(whole_width), int(whole_height))
    return {"size": size, "resized": (width, height), "patches": patches}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
