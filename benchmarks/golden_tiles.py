"""Writes tests/support/tile_goldens.json: what sahi and ensemble-boxes make of boxes of chance.

    python benchmarks/golden_tiles.py tests/support/tile_goldens.json

Run with a Python that has sahi and ensemble-boxes (no PyTorch), imports nothing of ours. The tests draw the same boxes.
"""

import json
import sys
import warnings
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

#: Of pictures (width, height), tiles (width, height), and their overlap.
GRIDS: list[tuple[tuple[int, int], tuple[int, int], float]] = [
    ((1920, 1080), (512, 512), 0.2),
    ((1080, 1920), (640, 480), 0.25),
    ((512, 512), (512, 512), 0.2),
    ((513, 512), (512, 512), 0.2),
    ((300, 200), (512, 512), 0.2),
    ((300, 900), (512, 512), 0.2),
    ((1000, 1000), (256, 256), 0.0),
    ((60, 41), (16, 17), 0.99),
    ((97, 31), (16, 17), 0.5),
]
MERGES, METRICS = ("NMS", "NMM", "GREEDYNMM"), ("IOU", "IOS")


def chance(seed: int, count: int, *, coarse: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes float32 [n, 4] in a picture of 400 × 300, scores float32 [n], classes [n].

    coarse: on a grid and with few different scores, so that there are equal ones and matches of just so much.
    """
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 1, (count, 2)) * (340, 240)
    boxes = np.concatenate([corner, corner + random.uniform(4, 60, (count, 2))], axis=1)
    scores = random.uniform(0.1, 1, count)
    if coarse:
        boxes, scores = np.round(boxes / 20) * 20 + [0, 0, 20, 20], np.round(scores, 1)
        boxes = np.minimum(boxes, [400, 300, 400, 300])
    return boxes.astype(np.float32), scores.astype(np.float32), random.integers(0, 3, count)


def main(target: Path) -> None:
    made: dict[str, Any] = {"libraries": {name: version(name) for name in ("sahi", "ensemble-boxes")}}
    made["grids"] = [grid(*case) for case in GRIDS]
    cases = [(90, False), (60, True)]
    made["merging"] = [
        merging(seed, count, coarse, *rest)
        for seed, (count, coarse) in enumerate(cases)
        for rest in product(MERGES, METRICS, (0.3, 0.5), (False, True))
    ]
    made["fusion"] = [
        fusion(seed, views, iou, skip)
        for seed, (views, iou, skip) in enumerate([(2, 0.55, 0.0), (3, 0.55, 0.3), (4, 0.3, 0.0), (1, 0.5, 0.0)])
    ]
    target.write_text(json.dumps(made), "utf-8")


def grid(size: tuple[int, int], tile: tuple[int, int], overlap: float) -> dict[str, Any]:
    from sahi.slicing import get_slice_bboxes

    boxes = get_slice_bboxes(size[1], size[0], tile[1], tile[0], False, overlap, overlap)
    return {"size": size, "tile": tile, "overlap": overlap, "tiles": boxes}


def merging(
    seed: int, count: int, coarse: bool, merge: str, metric: str, threshold: float, agnostic: bool
) -> dict[str, Any]:
    from sahi.postprocess.backends import set_postprocess_backend
    from sahi.predict import POSTPROCESS_NAME_TO_CLASS
    from sahi.prediction import ObjectPrediction

    set_postprocess_backend("numpy")
    predictions = [
        ObjectPrediction(bbox=box.tolist(), category_id=int(one), category_name=str(one), score=float(score))
        for box, score, one in zip(*chance(seed, count, coarse=coarse), strict=True)
    ]
    joined = POSTPROCESS_NAME_TO_CLASS[merge](match_threshold=threshold, match_metric=metric, class_agnostic=agnostic)(
        predictions
    )
    rows = [[*one.bbox.to_xyxy(), one.score.value, one.category.id] for one in joined]
    asked = {"merge": merge, "metric": metric, "threshold": threshold, "agnostic": agnostic}
    return {"seed": seed, "count": count, "coarse": coarse, "asked": asked, "rows": short(rows)}


def fusion(seed: int, views: int, iou: float, skip: float) -> dict[str, Any]:
    from ensemble_boxes import weighted_boxes_fusion

    drawn = [chance(100 * seed + view, 40) for view in range(views)]
    size = np.array([400, 300, 400, 300], np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        boxes, scores, classes = weighted_boxes_fusion(
            [(boxes / size).tolist() for boxes, _, _ in drawn],
            [scores.tolist() for _, scores, _ in drawn],
            [classes.tolist() for _, _, classes in drawn],
            iou_thr=iou,
            skip_box_thr=skip,
        )
    rows = np.concatenate([boxes, scores[:, None], classes[:, None]], axis=1)
    return {"seed": seed, "views": views, "iou": iou, "skip": skip, "rows": short(rows)}


def short(rows: Any) -> list[list[float]]:
    """With as many digits as single precision has."""
    return [[float(f"{value:.9g}") for value in row] for row in rows]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
