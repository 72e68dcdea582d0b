"""What a single-file volume says of itself, read by us before a C++ parser may see it.

bytes -> Header (nifti.py, nrrd.py, metaimage.py) -> limits -> payload.py (complete? finite?) -> SimpleITK
-> does its geometry agree with what the header states?
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fleet.errors import CorruptInput, GeometryError, UnsupportedMedia
from worker.contract import Array, Geometry

Encoding = Literal["raw", "gzip", "zlib", "bzip2"]
#: Cosines further from orthonormal than this are a shear or a fault; float32 headers stay below 1e-6.
ORTHONORMAL_TOLERANCE = 1e-3
_LONGEST_AXIS = 10**12
_MOST_AXES = 16
#: From an electron microscope to more than any scanner's bore, in mm: what lies outside is not a length in mm.
_SPACING_MM = (1e-6, 1e4)
_FARTHEST_MM = 1e7


@dataclass(frozen=True)
class Header:
    """`size` is (x, y, z); `dtype` is the stored one, with its byte order."""

    size: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    #: Every reading of the geometry that the format allows; SimpleITK's must be one of them.
    geometries: tuple[Geometry, ...]
    #: Where the voxels begin in the file.
    offset: int
    encoding: Encoding = "raw"
    #: Bytes per voxel after the format's own rescaling; 0 when it does none.
    rescaled_bytes: int = 0
    #: A plain header of our own making for the unpacked voxels, so that no C++ parser reads the user's text: two
    #: readers of one hostile header need not agree. None where the whole file is handed on.
    rewritten: bytes | None = None

    @property
    def stored_bytes(self) -> int:
        x, y, z = self.size
        return x * y * z * self.dtype.itemsize

    @property
    def held_bytes_per_voxel(self) -> int:
        return max(self.dtype.itemsize, self.rescaled_bytes)


def check_size(size: tuple[int, ...]) -> tuple[int, int, int]:
    """Three axes of at least two voxels. Raises UnsupportedMedia for 1-D, 2-D and 4-D images."""
    dimensions = len(size)
    if dimensions > _MOST_AXES:
        raise CorruptInput(f"the header gives {dimensions} axes", code="invalid-header")
    if max(size, default=0) > _LONGEST_AXIS:
        raise CorruptInput("the header gives an axis of more than 10^12 voxels", code="invalid-header")
    if dimensions != 3 or min(size) < 2:
        shown = " × ".join(map(str, size))
        kind = {1: "a line", 2: "a 2-D image", 3: "a single slice or line"}.get(
            dimensions, f"a {dimensions}-D image, for instance a time series or several channels"
        )
        raise UnsupportedMedia(
            f"this is {kind} ({shown}); a volume has exactly three axes of at least two voxels each",
            code="not-3d",
            size=list(size),
        )
    x, y, z = size
    return x, y, z


def geometry_from(size: tuple[int, int, int], columns: Array, origin: Array) -> Geometry:
    """From the three axis steps in LPS mm, one per column, and the first voxel's centre.

    Raises GeometryError for steps that are zero, not finite, or not at right angles.
    """
    spacing = np.linalg.norm(columns, axis=0)
    check_spacing([float(value) for value in spacing])
    direction = columns / spacing
    check_direction(direction)
    if not (np.abs(origin) <= _FARTHEST_MM).all():
        raise GeometryError("the origin is not finite, or more than 10 km away", code="invalid-origin")
    a, b, c = (float(value) for value in spacing)
    x, y, z = (float(value) for value in origin)
    return Geometry(size, (a, b, c), (x, y, z), tuple(float(value) for value in direction.ravel()))


def check_spacing(spacing: list[float]) -> None:
    """Raises GeometryError unless every spacing is a positive number of mm that can be one (10⁻⁶ to 10⁴)."""
    if not all(_SPACING_MM[0] <= value <= _SPACING_MM[1] for value in spacing):
        raise GeometryError(
            f"the voxel spacing is {spacing}; each must be a positive number of mm, from 0.000001 to 10000. "
            "A viewer may have guessed 1 mm for you: put the scanner's spacing into the header",
            code="invalid-spacing",
            spacing=[str(value) for value in spacing],
        )


def check_direction(direction: Array) -> None:
    """Raises GeometryError unless the 3×3 direction is orthonormal (mirrored is fine)."""
    error = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if not error <= ORTHONORMAL_TOLERANCE:
        raise GeometryError(
            f"the axes are not at right angles to each other (off by {error:.4f}): the volume is sheared, "
            "as after a gantry tilt or an affine registration. Resample it to a straight grid first",
            code="sheared-direction",
            error=error,
        )


def agrees(a: Geometry, b: Geometry) -> bool:
    """Within a thousandth of a voxel all over the volume, which is wider than float32 headers round."""
    return a.size == b.size and _corner_distance(a, b) <= 1e-3 * min(a.spacing)


def _corner_distance(a: Geometry, b: Geometry) -> float:
    """The greatest distance in mm between the same voxel of both, which one of the corners has."""
    corners = np.array(np.meshgrid(*((0, n - 1) for n in a.size), indexing="ij")).reshape(3, 8)
    return float(np.linalg.norm(_points(a, corners) - _points(b, corners), axis=0).max())


def _points(geometry: Geometry, indices: Array) -> Array:
    direction = np.asarray(geometry.direction).reshape(3, 3)
    scaled = np.asarray(geometry.spacing)[:, None] * indices
    return np.asarray(direction @ scaled + np.asarray(geometry.origin)[:, None])
