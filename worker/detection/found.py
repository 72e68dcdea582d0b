"""What a model has found in one picture, and what was asked of it."""

from dataclasses import dataclass

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array


@dataclass(frozen=True)
class Wanted:
    """Which boxes count. A score must be above `confidence`, not equal to it, as all libraries have it."""

    confidence: float
    iou: float
    max_detections: int
    #: Class numbers; None: all.
    classes: frozenset[int] | None = None
    agnostic: bool = False


@dataclass(frozen=True)
class Found:
    """Boxes float32 [n, 4] as x1, y1, x2, y2 in pixels, scores float32 [n], classes int64 [n], best first."""

    boxes: Array
    scores: Array
    classes: Array
    #: float32 [n, points, 2] as x, y in pixels, of models that give them.
    landmarks: Array | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, chosen: Array) -> "Found":
        """These rows, by number or by truth, in that order."""
        landmarks = None if self.landmarks is None else self.landmarks[chosen]
        return Found(self.boxes[chosen], self.scores[chosen], self.classes[chosen], landmarks)

    def meeting(self, wanted: Wanted) -> "Found":
        """Those above the score and of the classes that are wanted, in the order they came. Raises as `above`."""
        chosen = above(self.scores, wanted)
        if wanted.classes is not None:
            chosen &= np.isin(self.classes, list(wanted.classes))
        return self.only(chosen)

    def clipped(self, size: tuple[int, int]) -> "Found":
        """Boxes as far as they lie in a picture of (width, height); landmarks stay where they are."""
        corners = np.clip(self.boxes.reshape(-1, 2, 2), np.float32(0), np.array(size, np.float32))
        return Found(corners.reshape(-1, 4), self.scores, self.classes, self.landmarks)

    def best(self, count: int) -> "Found":
        """At most so many with the highest scores, best first; equal ones in the order they came."""
        return self.only(np.argsort(-self.scores, kind="stable")[:count])


def above(scores: Array, wanted: Wanted) -> Array:
    """Which scores count. Raises ModelError `result-not-finite`: what is no number is above nothing, and no answer."""
    if np.isnan(scores).any():
        raise not_finite()
    return np.asarray(scores > np.float32(wanted.confidence))


def not_finite() -> ModelError:
    return ModelError("the model answered with numbers that are not finite", code="result-not-finite")


def found(boxes: Array, scores: Array, classes: Array, landmarks: Array | None = None) -> Found:
    """Brings what a graph gave to the types of `Found`: half precision becomes single.

    Raises ModelError `result-not-finite` for classes that are no numbers.
    """
    if not np.isfinite(classes).all():
        raise not_finite()
    return Found(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(scores, np.float32).reshape(-1),
        np.asarray(classes).reshape(-1).astype(np.int64),
        None if landmarks is None else np.asarray(landmarks, np.float32),
    )
