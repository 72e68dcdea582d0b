"""From a volume's index axes to the axes that a model expects, as flips and an order: no voxel is touched.

Letters say where an axis points to, as in nibabel and in ITK's DICOMOrient: an identity direction is `LPS`.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np

T = TypeVar("T")
#: Positive and negative end of each patient axis in ITK's frame (x to the Left, y Posterior, z Superior).
ENDS = (("L", "R"), ("P", "A"), ("S", "I"))
_PATIENT_AXIS = {letter: axis for axis, pair in enumerate(ENDS) for letter in pair}


@dataclass(frozen=True)
class Orientation:
    """How an array [z, y, x] becomes a tensor: flip some of its axes, then transpose."""

    flips: tuple[bool, bool, bool]
    #: tensor = flipped.transpose(to_tensor)
    to_tensor: tuple[int, int, int]

    @property
    def from_tensor(self) -> tuple[int, int, int]:
        """flipped = tensor.transpose(from_tensor)"""
        a, b, c = (self.to_tensor.index(axis) for axis in range(3))
        return a, b, c

    def per_array_axis(self, per_tensor_axis: tuple[T, T, T]) -> tuple[T, T, T]:
        """Reorders values given per tensor axis to the array's axes."""
        a, b, c = (per_tensor_axis[axis] for axis in self.from_tensor)
        return a, b, c

    def per_tensor_axis(self, per_array_axis: tuple[T, T, T]) -> tuple[T, T, T]:
        a, b, c = (per_array_axis[axis] for axis in self.to_tensor)
        return a, b, c


def is_axes(axes: str) -> bool:
    """Whether `axes` names three patient axes (`RAS`) or an order of the file's own (`zyx`)."""
    if sorted(axes) == ["x", "y", "z"]:
        return True
    return len(axes) == 3 and sorted(_PATIENT_AXIS.get(letter, -1) for letter in axes) == [0, 1, 2]


def patient_axes(direction: tuple[float, ...]) -> tuple[int, int, int]:
    """The patient axis that each index axis (x, y, z) follows best; each is used once, however oblique."""
    cosines = np.abs(np.asarray(direction, dtype=np.float64).reshape(3, 3))
    best = max(permutations(range(3)), key=lambda order: sum(cosines[row, col] for col, row in enumerate(order)))
    a, b, c = best
    return a, b, c


def orientation_code(direction: tuple[float, ...]) -> str:
    """Where the index axes x, y, z point to: `LPS` for an identity direction (9 cosines, row by row)."""
    cosines = np.asarray(direction, dtype=np.float64).reshape(3, 3)
    return "".join(
        ENDS[patient][int(cosines[patient, index] < 0)] for index, patient in enumerate(patient_axes(direction))
    )


def orient(direction: tuple[float, ...], axes: str) -> Orientation:
    """The flips and the order that bring an array [z, y, x] with this direction to `axes`."""
    if axes.islower():
        a, b, c = ("zyx".index(letter) for letter in axes)
        return Orientation((False, False, False), (a, b, c))
    code = orientation_code(direction)
    flips = [False, False, False]
    order = []
    for letter in axes:
        index_axis = next(i for i, own in enumerate(code) if _PATIENT_AXIS[own] == _PATIENT_AXIS[letter])
        array_axis = 2 - index_axis
        flips[array_axis] = code[index_axis] != letter
        order.append(array_axis)
    return Orientation((flips[0], flips[1], flips[2]), (order[0], order[1], order[2]))
