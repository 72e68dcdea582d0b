"""From scores to labels, voxel by voxel: a threshold per channel, or the strongest channel."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.contract import Array
from worker.volumes.settings import Region

Labels = npt.NDArray[np.uint16]
#: [channels, ...] -> uint16 [...]. Linear interpolation between voxels of one label must keep that label: then
#: only cells whose corners differ need interpolating. ByArgmax has this property, and ByThreshold where no two
#: regions share a label, ties included. Only does not: its background is many labels.
Decision = Callable[[Array], Labels]


@dataclass(frozen=True)
class ByThreshold:
    """Paints each region where its channel is above the threshold, later ones over earlier ones."""

    threshold: float
    regions: tuple[Region, ...]

    def __call__(self, scores: Array) -> Labels:
        labels = np.zeros(scores.shape[1:], dtype=np.uint16)
        for region in self.regions:
            labels[scores[region.channel] > self.threshold] = region.label
        return labels


@dataclass(frozen=True)
class ByArgmax:
    """The number of the strongest channel; of equals, the first."""

    def __call__(self, scores: Array) -> Labels:
        best = scores[0].copy()
        labels = np.zeros(scores.shape[1:], dtype=np.uint16)
        for channel in range(1, len(scores)):
            stronger = scores[channel] > best
            labels[stronger] = channel
            np.copyto(best, scores[channel], where=stronger)
        return labels


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def sigmoid(scores: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (np.tanh(0.5 * scores) + 1), dtype=np.float32)


def softmax(scores: Array) -> Array:
    """Over axis 0."""
    powers = np.exp(scores - scores.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0), dtype=np.float32)


@dataclass(frozen=True)
class Only:
    """Another decision, with all labels but `kept` turned to background."""

    decide: Decision
    kept: tuple[int, ...]

    def __call__(self, scores: Array) -> Labels:
        return self.drop(self.decide(scores))

    def drop(self, labels: Labels) -> Labels:
        """In place."""
        labels[~np.isin(labels, self.kept)] = 0
        return labels
