"""Volumes with known content, for tests of the media and of segmentation."""

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from worker.contract import Array, Geometry, Volume


def direction_from(code: str, turn_degrees: tuple[float, float, float] = (0, 0, 0)) -> tuple[float, ...]:
    """Nine cosines, row by row, of index axes x, y, z that point to `code` (identity is LPS), then turned."""
    axes = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
    matrix = np.zeros((3, 3))
    for column, letter in enumerate(code):
        row, sign = axes[letter]
        matrix[row, column] = sign
    turned = Rotation.from_euler("xyz", turn_degrees, degrees=True).as_matrix() @ matrix
    return tuple(float(value) for value in turned.ravel())


def volume_of(
    array: Array,
    code: str = "LPS",
    turn_degrees: tuple[float, float, float] = (0, 0, 0),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    **about: Any,
) -> Volume:
    z, y, x = array.shape
    return Volume(array, Geometry((x, y, z), spacing, origin, direction_from(code, turn_degrees)), about)


def positions_of(geometry: Geometry) -> Array:
    """The LPS mm of every voxel: [3, z, y, x]."""
    x, y, z = geometry.size
    k, j, i = np.meshgrid(np.arange(z), np.arange(y), np.arange(x), indexing="ij")
    steps = np.asarray(geometry.direction).reshape(3, 3) * geometry.spacing
    return np.asarray(
        np.einsum("ab,bzyx->azyx", steps, np.stack([i, j, k])) + np.reshape(geometry.origin, (3, 1, 1, 1))
    )


def ball(geometry: Geometry, radius_mm: float) -> Array:
    """Booleans [z, y, x]: the voxels within a radius of the volume's middle."""
    positions = positions_of(geometry)
    middle = (positions[:, 0, 0, 0] + positions[:, -1, -1, -1]) / 2
    return np.asarray(np.linalg.norm(positions - middle.reshape(3, 1, 1, 1), axis=0) <= radius_mm)
