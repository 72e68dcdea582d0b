"""From the slices of a zip to one straight, complete, evenly spaced stack, or a clear reason why not.

ITK stretches the spacing over a missing slice, reads a tilted gantry as if it were straight, and takes the first of
two series; each of these is refused here.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from fleet.errors import CorruptInput, GeometryError, UnsupportedMedia
from worker.contract import Array, Geometry
from worker.media.dicom import Scan, Slice, digest
from worker.media.header import check_size, check_spacing, geometry_from

#: Degrees between the stack's direction and the slices' normal.
_TILT_TOLERANCE = 0.1
#: Of the median distance between slices; never under a hundredth of a millimetre.
_GAP_TOLERANCE = 0.01
#: An error is kept in the job's row: no hostile zip may make it long, or put words into it.
_SERIES_SHOWN = 50
_SHAPES_SHOWN = 5
_UID = re.compile(r"[0-9.]{1,64}")
_PHOTOMETRIC = re.compile(r"[A-Z0-9_]{1,16}")


@dataclass(frozen=True)
class Stack:
    """Slices in the order of their positions along the normal, and the grid that they make."""

    slices: list[Slice]
    geometry: Geometry
    duplicates: int


def choose_series(scan: Scan, series_uid: str | None) -> list[Slice]:
    """The slices of the one series, or of the one asked for."""
    series: dict[str, list[Slice]] = defaultdict(list)
    for one in scan.slices:
        series[one.series].append(one)
    if not series:
        left = ", ".join(f"{count} × {kind}" for kind, count in sorted(scan.aside.items()))
        raise UnsupportedMedia(
            f"the zip holds no CT, MR or PET slices with a position; found {left or 'nothing'}",
            code="no-usable-series",
            found=dict(scan.aside),
        )
    if series_uid is not None:
        if series_uid not in series:
            raise UnsupportedMedia(
                f"the zip holds no series with that series_uid; it holds {len(series)} other(s)",
                code="series-not-found",
                series=_listed(series),
            )
        return series[series_uid]
    if len(series) > 1:
        raise UnsupportedMedia(
            f"the zip holds {len(series)} series; say which one with params.series_uid",
            code="several-series",
            series=_listed(series),
        )
    return next(iter(series.values()))


def _listed(series: dict[str, list[Slice]]) -> list[dict[str, Any]]:
    return [_described(uid, slices) for uid, slices in islice(series.items(), _SERIES_SHOWN)]


def _described(uid: str, slices: list[Slice]) -> dict[str, Any]:
    first = slices[0]
    return {
        "series_uid": uid if _UID.fullmatch(uid) else "?",
        "modality": first.modality,
        "slices": len(slices),
        "rows": first.rows,
        "columns": first.columns,
    }


def stack(slices: list[Slice]) -> Stack:
    """Sorts by position and checks. Raises UnsupportedMedia, CorruptInput or GeometryError."""
    distinct = _distinct(slices)
    _check_alike(distinct)
    check_size((distinct[0].columns, distinct[0].rows, len(distinct)))
    across, down = _axes(distinct[0])
    normal = np.cross(across, down)
    positions = np.array([one.position for one in distinct])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = [distinct[i] for i in order]
    step = _step(positions[order], normal)
    row_mm, column_mm = distinct[0].spacing
    columns = np.column_stack([across * column_mm, down * row_mm, normal * step])
    size = (distinct[0].columns, distinct[0].rows, len(ordered))
    return Stack(ordered, geometry_from(size, columns, positions[order][0]), len(slices) - len(distinct))


def _distinct(slices: list[Slice]) -> list[Slice]:
    """Without exact copies of a file; two different files with one instance UID are a fault."""
    by_instance: dict[str, Slice] = {}
    for one in slices:
        other = by_instance.setdefault(one.instance, one)
        if other is not one and digest(other.path) != digest(one.path):
            raise CorruptInput("two different files carry the same SOP instance UID", code="duplicate-slices")
    return list(by_instance.values())


def _check_alike(slices: list[Slice]) -> None:
    first = slices[0]
    if any(one.components != 1 for one in slices):
        raise UnsupportedMedia("the slices are in colour; a volume has one number per voxel", code="not-scalar")
    for one in slices:
        _check_photometric(one.photometric)
    shapes = sorted({(one.rows, one.columns) for one in slices})
    if len(shapes) > 1:
        shown = ", ".join(f"{rows} × {columns}" for rows, columns in shapes[:_SHAPES_SHOWN])
        shown += f" and {len(shapes) - _SHAPES_SHOWN} more" if len(shapes) > _SHAPES_SHOWN else ""
        raise GeometryError(f"the slices have different rows × columns: {shown}", code="mixed-slices")
    check_spacing(list(first.spacing))
    for one in slices:
        if not np.allclose(one.spacing, first.spacing, rtol=1e-4, atol=0):
            raise GeometryError("the slices have different pixel spacings", code="mixed-slices")
        if not np.allclose(one.orientation, first.orientation, atol=1e-4):
            raise GeometryError("the slices are turned differently from each other", code="mixed-slices")
        if one.rescale != first.rescale:
            raise UnsupportedMedia(
                "the slices have different rescale slopes or intercepts, which a stack of integers cannot hold; "
                "convert the series to NIfTI with float voxels",
                code="varying-rescale",
            )
        # ITK reads all slices into the type of the first, and numbers that do not fit wrap around.
        if one.encoding != first.encoding:
            raise GeometryError(
                "the slices' numbers differ in bits allocated, bits stored, sign or type; send one acquisition",
                code="mixed-slices",
            )


def _check_photometric(found: str) -> None:
    if found == "MONOCHROME2":
        return
    shown = found if _PHOTOMETRIC.fullmatch(found) else "missing or not a known one"
    raise UnsupportedMedia(
        f"the photometric interpretation of a slice is {shown}; only MONOCHROME2, in which larger numbers are "
        "brighter, is read. Convert the series first",
        code="unsupported-photometric",
    )


def _axes(one: Slice) -> tuple[Array, Array]:
    across, down = np.array(one.orientation[:3]), np.array(one.orientation[3:])
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if not np.allclose(lengths, 1, atol=1e-3) or abs(float(across @ down)) > 1e-3:
        raise GeometryError(
            "ImageOrientationPatient is not two unit vectors at a right angle", code="invalid-direction"
        )
    return across / lengths[0], down / lengths[1]


def _step(positions: Array, normal: Array) -> float:
    """The even distance in mm between sorted slices along their normal."""
    if not np.isfinite(positions).all():
        raise GeometryError("a slice position is not finite", code="invalid-origin")
    gaps = np.diff(positions @ normal)
    median = float(np.median(gaps))
    tolerance = max(_GAP_TOLERANCE * median, 0.01)
    if gaps.min() <= tolerance / 2:
        raise GeometryError(
            "several slices lie at the same position: two acquisitions, echoes or time points are mixed. "
            "Send one of them",
            code="duplicate-slices",
        )
    run = positions[-1] - positions[0]
    tilt = float(np.degrees(np.arccos(np.clip(run @ normal / np.linalg.norm(run), -1, 1))))
    if tilt > _TILT_TOLERANCE:
        raise GeometryError(
            f"the gantry is tilted by {tilt:.2f}°: the slices are not stacked along their normal. "
            "Straighten the series first, for instance with dcm2niix",
            code="gantry-tilt",
            degrees=round(tilt, 3),
        )
    worst = int(np.abs(gaps - median).argmax())
    if abs(gaps[worst] - median) > tolerance:
        raise GeometryError(
            f"between slices {worst + 1} and {worst + 2} of {len(positions)} lie {gaps[worst]:.3f} mm instead of "
            f"{median:.3f} mm: a slice is missing, or the spacing is uneven",
            code="missing-slices",
            after_slice=worst + 1,
            gap_mm=round(float(gaps[worst]), 4),
            usual_mm=round(median, 4),
        )
    drift = positions - positions[0]
    sideways = np.linalg.norm(drift - np.outer(drift @ normal, normal), axis=1).max()
    if sideways > max(0.01, 1e-3 * float(np.linalg.norm(run))):
        raise GeometryError("the slices are shifted sideways against each other", code="gantry-tilt")
    return float((positions[-1] - positions[0]) @ normal / (len(positions) - 1))
