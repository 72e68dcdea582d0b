"""Boxes of overlapping tiles become those of the whole picture: as the package sahi 0.12.8 joins them.

nms          of boxes that match, the best one stays as it is
greedy_nmm   each box takes in those that match it, best first, and grows to the hull of them
nmm          likewise, and those that match what it has taken in, too

Source: `sahi.postprocess` (Akyon, Altinuc & Temizel, "Slicing Aided Hyper Inference", 2022).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from worker.contract import Array
from worker.detection.found import Found

Merge = Literal["nms", "nmm", "greedy_nmm"]
#: What boxes share, over the union of them, or over the smaller one.
Metric = Literal["iou", "ios"]


@dataclass(frozen=True)
class Merging:
    """Boxes match from `threshold` on, above 0; of one class, unless `agnostic`."""

    merge: Merge
    metric: Metric
    threshold: float
    agnostic: bool

    def of(self, found: Found) -> Found:
        """Best first. Landmarks are those of the best box of each.

        Boxes without an area are dropped. The order of the boxes does not matter for `nms` and `greedy_nmm`; `nmm`
        takes those in that come first, as sahi does.
        """
        x1, y1, x2, y2 = found.boxes.T
        found = found.only((x1 < x2) & (y1 < y2))
        groups = [np.arange(len(found))] if self.agnostic else [
            np.flatnonzero(found.classes == one) for one in np.unique(found.classes)
        ]  # fmt: skip
        parts = [self._merged(found.only(group)) for group in groups]
        joined = Found(
            np.concatenate([found.boxes[:0], *(part.boxes for part in parts)]),
            np.concatenate([found.scores[:0], *(part.scores for part in parts)]),
            np.concatenate([found.classes[:0], *(part.classes for part in parts)]),
            None if found.landmarks is None else np.concatenate([found.landmarks[:0], *(_points(p) for p in parts)]),
        )
        return joined.best(len(joined))

    def _merged(self, found: Found) -> Found:
        if not len(found):
            return found
        pairs = _Pairs(found, self.metric, self.threshold)
        taken = {"nms": _suppressed, "greedy_nmm": _greedily, "nmm": _transitively}[self.merge](pairs)
        boxes, classes = found.boxes.astype(np.float64), found.classes.copy()
        for keeper, others in taken.items():
            for other in others:
                # What was taken in has to match what the box has grown to by now.
                if _overlap(boxes[keeper], found.boxes[other].astype(np.float64), self.metric) >= self.threshold:
                    np.minimum(boxes[keeper, :2], found.boxes[other, :2], out=boxes[keeper, :2])
                    np.maximum(boxes[keeper, 2:], found.boxes[other, 2:], out=boxes[keeper, 2:])
                    if found.scores[other] == found.scores[keeper]:
                        classes[keeper] = classes[other]
        kept = np.fromiter(taken, np.int64, len(taken))
        return Found(boxes.astype(np.float32), found.scores, classes, found.landmarks).only(kept)


class _Pairs:
    """Which boxes match which, looked up among those that can."""

    def __init__(self, found: Found, metric: Metric, threshold: float) -> None:
        self.boxes, self.scores = found.boxes, found.scores
        x1, y1, x2, y2 = self.boxes.T
        #: Rows, best first; equal scores by their boxes.
        self.order = np.lexsort((y2, x2, y1, x1, -self.scores))
        self._areas = (x2 - x1) * (y2 - y1)
        self._metric, self._threshold = metric, threshold
        self._by_left = np.argsort(x1, kind="stable")
        self._lefts = x1[self._by_left]
        self._widest = float((x2 - x1).max())

    def matching(self, row: int) -> Array:
        """Rows whose boxes match that one, itself among them, ascending. Computed in float32, as sahi does."""
        left, top, right, bottom = self.boxes[row]
        begin, end = np.searchsorted(self._lefts, (float(left) - self._widest - 1, float(right) + 1))
        near = np.sort(self._by_left[begin:end])
        boxes, areas = self.boxes[near], self._areas[near]
        width = np.minimum(right, boxes[:, 2]) - np.maximum(left, boxes[:, 0])
        height = np.minimum(bottom, boxes[:, 3]) - np.maximum(top, boxes[:, 1])
        shared = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
        area = self._areas[row]
        over = area + areas - shared if self._metric == "iou" else np.minimum(area, areas)
        matching: Array = near[shared / over >= np.float32(self._threshold)]
        return matching

    def dominated(self, row: int, others: Array) -> Array:
        """Of these, the ones with a lower score than the row's, or with the same and a box that sorts no later."""
        scores, boxes = self.scores[others], self.boxes[others]
        later = np.zeros(len(others), bool)
        same = np.ones(len(others), bool)
        for column in range(4):
            later |= same & (boxes[:, column] > self.boxes[row, column])
            same &= boxes[:, column] == self.boxes[row, column]
        lower = self.scores[row] > scores
        dominated: Array = others[(others != row) & (lower | ((self.scores[row] == scores) & ~later))]
        return dominated


#: Row of a box that stays -> rows that it takes in, in that order.
Taken = dict[int, list[int]]
_Joined = Callable[[_Pairs], Taken]


def _suppressed(pairs: _Pairs) -> Taken:
    gone = np.zeros(len(pairs.order), bool)
    kept: Taken = {}
    for row in pairs.order.tolist():
        if not gone[row]:
            gone[pairs.matching(row)] = True
            kept[row] = []
    return kept


def _greedily(pairs: _Pairs) -> Taken:
    rank = np.empty(len(pairs.order), np.int64)
    rank[pairs.order] = np.arange(len(pairs.order))
    gone = np.zeros(len(pairs.order), bool)
    taken: Taken = {}
    for row in pairs.order.tolist():
        if gone[row]:
            continue
        others = pairs.matching(row)
        others = others[~gone[others] & (rank[others] > rank[row])]
        gone[others] = True
        taken[row] = others[np.argsort(rank[others])].tolist()
    return taken


def _transitively(pairs: _Pairs) -> Taken:
    keeper_of: dict[int, int] = {}
    taken: Taken = {}
    for row in pairs.order.tolist():
        keeper = keeper_of.setdefault(row, row)
        into = taken.setdefault(keeper, [])
        for other in pairs.dominated(row, pairs.matching(row)).tolist():
            if other not in keeper_of:
                keeper_of[other] = keeper
                into.append(other)
    return taken


def _overlap(one: Array, other: Array, metric: Metric) -> float:
    """Of two boxes, float64 [4]."""
    sides = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    shared = float(sides[0] * sides[1])
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    return shared / (sum(areas) - shared if metric == "iou" else min(areas))


def _points(found: Found) -> Array:
    assert found.landmarks is not None  # noqa: S101 - all parts have them, or none
    return found.landmarks
