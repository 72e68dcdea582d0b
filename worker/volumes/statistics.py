"""What is measured of each label, on the source grid."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.contract import Array, Geometry, Volume

Counts = npt.NDArray[np.float64]


class _Marginals:
    """Voxels of each label along each axis, and its summed intensity: enough for size, box, centroid and mean.

    Rows follow `values`, so that a label costs the same whatever its value; row 0 takes values that are no label.
    """

    def __init__(self, values: list[int], mask: Array) -> None:
        self._row = np.zeros(np.iinfo(mask.dtype).max + 1, dtype=np.int64)
        self._row[values] = np.arange(1, len(values) + 1)
        self.along = [np.zeros((len(values) + 1, size)) for size in mask.shape]
        self.intensity = np.zeros(len(values) + 1)

    def add(self, z: int, plane: Array, values: Array) -> None:
        where = np.flatnonzero(plane)
        if not where.size:
            return
        labels = self._row[plane.ravel()[where]]
        count, (rows, columns) = len(self.intensity), plane.shape
        y, x = np.divmod(where, columns)
        self.along[0][:, z] = np.bincount(labels, minlength=count)
        for axis, position, size in ((1, y, rows), (2, x, columns)):
            joint = np.bincount(labels * size + position, minlength=count * size)
            self.along[axis] += joint.reshape(count, size)
        self.intensity += np.bincount(labels, weights=values.ravel()[where], minlength=count)


def measure(mask: Array, volume: Volume, labels: Mapping[int, str]) -> list[dict[str, Any]]:
    """One entry per label, absent ones too.

    `bounding_box` is half-open in voxel indices (x, y, z); `centroid_mm` is in the LPS patient frame;
    `mean_intensity` is in the source's units. The last three are null for a label without voxels.
    """
    values = sorted(labels)
    marginals = _Marginals(values, mask)
    for z, plane in enumerate(mask):
        marginals.add(z, plane, volume.array[z])
    return [_entry(row, value, labels[value], marginals, volume.geometry) for row, value in enumerate(values, start=1)]


def _entry(row: int, value: int, name: str, marginals: _Marginals, geometry: Geometry) -> dict[str, Any]:
    x, y, z = (counts[row] for counts in reversed(marginals.along))
    voxels = int(z.sum())
    entry: dict[str, Any] = {
        "value": value,
        "name": name,
        "voxels": voxels,
        "volume_ml": round(voxels * geometry.voxel_ml, 3),
        "bounding_box": None,
        "centroid_mm": None,
        "mean_intensity": None,
    }
    if voxels:
        boxes = [np.flatnonzero(counts) for counts in (x, y, z)]
        centre = [float(counts @ np.arange(len(counts))) / voxels for counts in (x, y, z)]
        entry["bounding_box"] = {
            "start": [int(box[0]) for box in boxes],
            "end": [int(box[-1]) + 1 for box in boxes],
        }
        entry["centroid_mm"] = [round(at, 3) for at in in_patient_mm(centre, geometry)]
        entry["mean_intensity"] = round(float(marginals.intensity[row]) / voxels, 3)
    return entry


def in_patient_mm(index: list[float], geometry: Geometry) -> list[float]:
    """A continuous voxel index (x, y, z) as LPS mm."""
    direction = np.asarray(geometry.direction).reshape(3, 3)
    point = np.asarray(geometry.origin) + direction @ (np.asarray(geometry.spacing) * np.asarray(index))
    return [float(value) for value in point]
