"""Boxes that several looks at one picture found become one answer: weighted box fusion.

Source: Solovyev, Wang & Gabruseva, "Weighted boxes fusion" (2021), as `weighted_boxes_fusion` of ensemble-boxes 1.0.9
computes it with looks of equal weight and `conf_type="avg"`.
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from worker.contract import Array
from worker.detection.found import Found, found


def fused(looks: Sequence[Found], size: tuple[int, int], iou: float, skip: float) -> Found:
    """Boxes of one class that overlap by more than `iou` become their mean, weighed by their scores. Best first.

    The score is their mean, and less where fewer looks than all have seen it. size: (width, height) of the picture,
    which boxes end at. skip: boxes with a lower score are left out. Landmarks become means as boxes do.
    """
    every = [
        (row, score, one)
        for look in looks
        for row, score, one in zip(_shares(look, size), look.scores.astype(np.float64), look.classes, strict=True)
        if score >= skip and (row[2] - row[0]) * (row[3] - row[1]) > 0
    ]
    points = next((look.landmarks.shape[1:] for look in looks if look.landmarks is not None), None)
    if not every:
        return looks[0].only(np.zeros(0, np.int64))
    clusters: list[tuple[_Cluster, int]] = []
    for label in dict.fromkeys(int(one) for _, _, one in every):
        rows = [(row, score) for row, score, one in every if one == label]
        # Of equal scores the later one comes first, as there.
        order = np.argsort([score for _, score in rows], kind="stable")[::-1]
        clusters += [(cluster, label) for cluster in _clusters([rows[place] for place in order], iou)]
    count = len(looks)
    scores = np.array([cluster.score * min(count, cluster.count) / count for cluster, _ in clusters])
    rows_of = np.array([cluster.row for cluster, _ in clusters]).reshape(len(clusters), -1)
    scale = np.array([*size, *size])
    joined = found(
        rows_of[:, :4] * scale,
        scores,
        np.array([label for _, label in clusters], np.int64),
        None if points is None else (rows_of[:, 4:].reshape(-1, *points) * scale[:2]),
    )
    return joined.best(len(joined))


class _Cluster:
    """Boxes that are one."""

    def __init__(self, row: Array, score: float) -> None:
        #: Fused coordinates, as shares: those of the box, then those of landmarks.
        self.row = row
        self.score = score
        self.count = 1
        self._weighed = (score * row).astype(np.float32)
        self._weight = score

    def add(self, row: Array, score: float) -> None:
        """Sums are float32, in the order in which boxes come: those of the package."""
        self._weighed += score * row
        self._weight += score
        self.count += 1
        self.row = (self._weighed / np.float32(self._weight)).astype(np.float64)
        self.score = float(np.float32(self._weight / self.count))


def _clusters(rows: Sequence[tuple[Array, float]], iou: float) -> list[_Cluster]:
    """rows: best first."""
    made: list[_Cluster] = []
    boxes = np.empty((len(rows), 4))
    for row, score in rows:
        overlaps = _overlaps(boxes[: len(made)], row[:4])
        best = int(overlaps.argmax()) if made else -1
        if made and overlaps[best] > iou:
            made[best].add(row, score)
        else:
            best = len(made)
            made.append(_Cluster(row, score))
        boxes[best] = made[best].row[:4]
    return made


def _overlaps(boxes: Array, box: Array) -> Array:
    sides = np.clip(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0, None)
    shared = sides[:, 0] * sides[:, 1]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    overlaps: Array = shared / (areas + (box[2] - box[0]) * (box[3] - box[1]) - shared)
    return overlaps


def _shares(look: Found, size: tuple[int, int]) -> Array:
    """float64 [n, 4 and landmarks]: boxes within the picture."""
    scale = np.array(size, np.float64)
    boxes = np.clip(look.boxes.reshape(-1, 2, 2) / scale, 0, 1).reshape(-1, 4)
    if look.landmarks is None:
        return boxes
    points = (look.landmarks / scale).reshape(len(look), prod(look.landmarks.shape[1:]))
    return np.concatenate([boxes, points], axis=1)
