"""NIfTI-1 headers: 348 bytes, either byte order, the voxels in the same file.

ITK forgives much here that changes the meaning of the voxels (spacing 0 becomes 1 mm, a negative one a flip, an
unknown orientation the identity, `pixdim` wins over `sform`); all of that is refused.
https://nifti.nimh.nih.gov/nifti-1/documentation
"""

import struct
from dataclasses import dataclass

import numpy as np

from fleet.errors import CorruptInput, GeometryError, UnsupportedMedia
from worker.contract import Array, Geometry
from worker.media.header import Header, check_size, check_spacing, geometry_from

HEADER_BYTES = 352
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_NOT_SCALAR = {32: "complex", 128: "RGB", 1792: "complex", 2048: "complex", 2304: "RGBA"}
#: xyzt_units, lowest three bits -> mm
_UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class _Fields:
    dim: tuple[int, ...]
    datatype: int
    pixdim: tuple[float, ...]
    vox_offset: float
    slope: float
    intercept: float
    units: int
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    rows: tuple[float, ...]


#: Below it SimpleITK takes a slope for zero, that is, for no scaling.
_LEAST_SLOPE = 2.3e-16


def read_header(head: bytes) -> Header:
    """From a file's first HEADER_BYTES. Raises CorruptInput, UnsupportedMedia or GeometryError."""
    if len(head) < HEADER_BYTES:
        raise CorruptInput("the file ends inside its NIfTI header", code="truncated-volume")
    order = "<" if int.from_bytes(head[:4], "little") == 348 else ">"
    fields = _unpack(head, order)
    size = _size(fields.dim)
    stored = _TYPES.get(fields.datatype)
    if stored is None:
        kind = _NOT_SCALAR.get(fields.datatype, f"of NIfTI type {fields.datatype}")
        raise UnsupportedMedia(f"the voxels are {kind}; a volume has one real number each", code="not-scalar")
    offset = fields.vox_offset
    if not (np.isfinite(offset) and HEADER_BYTES <= offset < 2**31):
        raise CorruptInput(f"vox_offset is {offset}, which lies inside the header", code="invalid-header")
    if not (np.isfinite(fields.slope) and np.isfinite(fields.intercept)):
        raise CorruptInput("scl_slope or scl_inter is not finite", code="invalid-header")
    if (fields.slope == 0.0 and fields.intercept != 0.0) or 0.0 < abs(fields.slope) < _LEAST_SLOPE:
        # Readers differ on these: some apply what others ignore.
        raise CorruptInput(
            f"scl_slope {fields.slope} with scl_inter {fields.intercept} is read differently by different programs",
            code="invalid-header",
        )
    rescaled = fields.slope not in (0.0, 1.0) or fields.intercept != 0.0
    return Header(size, np.dtype(order + stored), _geometries(fields, size), int(offset), rescaled_bytes=8 * rescaled)


def _unpack(head: bytes, order: str) -> _Fields:
    def at(offset: int, kind: str) -> tuple[float, ...]:
        return struct.unpack_from(order + kind, head, offset)

    return _Fields(
        dim=tuple(int(n) for n in at(40, "8h")),
        datatype=int(at(70, "h")[0]),
        pixdim=at(76, "8f"),
        vox_offset=at(108, "f")[0],
        slope=at(112, "f")[0],
        intercept=at(116, "f")[0],
        units=head[123] & 7,
        qform_code=int(at(252, "h")[0]),
        sform_code=int(at(254, "h")[0]),
        quaternion=at(256, "6f"),
        rows=at(280, "12f"),
    )


def _size(dim: tuple[int, ...]) -> tuple[int, int, int]:
    """Trailing axes of one voxel do not count; time series and single slices are refused."""
    count = dim[0]
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1:
        raise CorruptInput(f"the header's dimensions are {list(dim)}", code="invalid-header")
    size = list(dim[1 : count + 1])
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    return check_size(tuple(size))


def _geometries(fields: _Fields, size: tuple[int, int, int]) -> tuple[Geometry, ...]:
    """By sform and by qform, as far as the header gives them; ITK prefers the scanner's."""
    if fields.units not in _UNITS:
        raise GeometryError(f"the spatial unit has the unknown code {fields.units}", code="unsupported-units")
    unit = _UNITS[fields.units]
    check_spacing([value * unit for value in fields.pixdim[1:4]])
    affines = []
    if fields.sform_code > 0:
        affines.append(np.asarray(fields.rows).reshape(3, 4))
    if fields.qform_code > 0:
        affines.append(_from_quaternion(fields))
    if not affines:
        raise GeometryError(
            "neither qform_code nor sform_code is set, so left and right, front and back are unknown. "
            "Set the orientation in the header (for instance with nibabel or fslorient)",
            code="no-orientation",
        )
    with np.errstate(invalid="ignore"):
        # What is not finite is refused below.
        steps = [_RAS_TO_LPS @ affine * unit for affine in affines]
    return tuple(geometry_from(size, lps[:, :3], lps[:, 3]) for lps in steps)


def _from_quaternion(fields: _Fields) -> Array:
    """The 3×4 affine of "method 2"; qfac (pixdim[0]) of -1 turns the third axis."""
    b, c, d = fields.quaternion[:3]
    squared = 1.0 - (b * b + c * c + d * d)
    if not np.isfinite(squared) or squared < -1e-4:
        raise GeometryError("the qform quaternion is not one of unit length", code="invalid-direction")
    a = np.sqrt(max(squared, 0.0))
    # Renormalised: the stored float32 b, c, d may be a little longer than one.
    a, b, c, d = np.array([a, b, c, d]) / np.sqrt(a * a + b * b + c * c + d * d)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    spacing = np.asarray(fields.pixdim[1:4]) * [1, 1, -1 if fields.pixdim[0] < 0 else 1]
    return np.column_stack([rotation * spacing, fields.quaternion[3:]])
