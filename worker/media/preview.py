"""The picture of a result: three planes through the labels' centre, with outlines, letters and a legend.

Drawn as radiologists look at it: from the feet for axial and from the front for coronal, so the patient's right is
on the left; sagittal from the left with the face to the left. Voxels keep their true proportions.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from worker.contract import Array, Geometry, Volume
from worker.volumes.intensity import percentiles
from worker.volumes.orient import ENDS, orientation_code, patient_axes

#: Distinct on grey and for most colour-blind eyes; labels take them in turn.
PALETTE = (
    (255, 89, 94), (76, 201, 240), (255, 202, 58), (138, 201, 38), (181, 126, 255), (255, 146, 76),
    (45, 212, 191), (244, 114, 182), (163, 230, 53), (96, 165, 250), (250, 204, 148), (203, 213, 225),
)  # fmt: skip
_PANEL, _GAP, _FOOT = 420, 14, 46
_BACKDROP, _INK, _DIM = (12, 14, 18), (236, 239, 244), (139, 147, 160)
_OVERLAY = 0.26
#: name, the patient axes shown to the right and downwards, and which way each grows (as LPS letters)
_VIEWS = (("axial", "L", "P"), ("coronal", "L", "I"), ("sagittal", "P", "I"))
#: width and level of a CT's soft tissue window, in HU
_CT_WINDOW = (-160.0, 240.0)


def draw_preview(volume: Volume, mask: Array, labels: list[dict[str, Any]], modality: str | None) -> bytes:
    """PNG bytes. `mask` is on the volume's grid; `labels` are its statistics, of which the legend shows some."""
    centre = _centre(mask)
    low, high = _window(volume.array, modality)
    picture = Image.new("RGB", (3 * _PANEL + 4 * _GAP, _PANEL + 2 * _GAP + _FOOT), _BACKDROP)
    for position, (name, right, down) in enumerate(_VIEWS):
        panel = _panel(volume, mask, labels, (right, down), centre, window=(low, high))
        left = _GAP + position * (_PANEL + _GAP)
        picture.paste(panel, (left, _GAP))
        _letters(ImageDraw.Draw(picture), (left, _GAP), name, right, down)
    _legend(ImageDraw.Draw(picture), labels, picture.size)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=2)
    return out.getvalue()


def _centre(mask: Array) -> tuple[int, int, int]:
    """The voxel [z, y, x] at the labels' centre of mass, or the volume's middle."""
    along = [np.zeros(size) for size in mask.shape]
    for z, plane in enumerate(mask):
        if plane.any():
            flags = plane > 0
            along[0][z] = flags.sum()
            along[1] += flags.sum(axis=1)
            along[2] += flags.sum(axis=0)
    if not along[0].any():
        z, y, x = (size // 2 for size in mask.shape)
    else:
        z, y, x = (round(float(counts @ np.arange(len(counts)) / counts.sum())) for counts in along)
    return z, y, x


def _window(array: Array, modality: str | None) -> tuple[float, float]:
    """The intensities shown black and white: soft tissue for CT, else the 1st to 99.5th percentile above the least."""
    if modality == "CT":
        return _CT_WINDOW
    sparse = np.ascontiguousarray(array[:: max(1, array.shape[0] // 48), ::3, ::3])
    if sparse.dtype.kind == "f":
        sparse = sparse[np.isfinite(sparse)]
    tissue = sparse[sparse > sparse.min()] if sparse.size else sparse
    return percentiles(tissue[None], (1, 99.5)) if tissue.size else (0.0, 1.0)


def _grey(plane: Array, window: tuple[float, float]) -> npt.NDArray[np.float32]:
    """0 at the window's low end, 1 at its high one; finite for every input, NaN is black."""
    # Halves, because the difference of two float64 extremes is not finite.
    low, high = 0.5 * window[0], 0.5 * window[1]
    width = max(high - low, 1e-6 * max(abs(low), abs(high))) or 1.0
    above = np.clip(0.5 * np.nan_to_num(plane.astype(np.float64), nan=window[0]), low, high) - low
    return np.asarray(above / width, dtype=np.float32)


def _panel(
    volume: Volume,
    mask: Array,
    labels: list[dict[str, Any]],
    view: tuple[str, str],
    centre: tuple[int, int, int],
    *,
    window: tuple[float, float],
) -> Image.Image:
    shades, pixel_mm = _slice(volume.array, volume.geometry, view, centre)
    painted, _ = _slice(mask, volume.geometry, view, centre)
    height_mm, width_mm = (n * mm for n, mm in zip(shades.shape, pixel_mm, strict=True))
    scale = _PANEL / max(height_mm, width_mm)
    # The outlines' slope needs two pixels each way, however thin the volume is.
    size = max(2, round(width_mm * scale)), max(2, round(height_mm * scale))
    grey = np.clip(np.asarray(Image.fromarray(_grey(shades, window)).resize(size, Image.Resampling.BICUBIC)), 0, 1)
    rgb = np.repeat(grey[:, :, None] * 255, 3, axis=2)
    for label in labels:
        _overlay(rgb, painted == label["value"], size, _colour(label))
    panel = Image.new("RGB", (_PANEL, _PANEL), (0, 0, 0))
    drawn = Image.fromarray(rgb.round().astype(np.uint8))
    panel.paste(drawn, ((_PANEL - size[0]) // 2, (_PANEL - size[1]) // 2))
    return panel


def _slice(
    array: Array, geometry: Geometry, view: tuple[str, str], centre: tuple[int, int, int]
) -> tuple[Array, tuple[float, float]]:
    """The plane [down, right] through the centre, and its pixel size in mm (down, right)."""
    code, order = orientation_code(geometry.direction), patient_axes(geometry.direction)
    patient_axis = {letter: axis for axis, pair in enumerate(ENDS) for letter in pair}
    right, down = (order.index(patient_axis[letter]) for letter in view)
    through = 3 - right - down
    plane = array.take(centre[2 - through], axis=2 - through)
    if right > down:
        plane = plane.T
    if code[down] != view[1]:
        plane = plane[::-1]
    if code[right] != view[0]:
        plane = plane[:, ::-1]
    return plane, (geometry.spacing[down], geometry.spacing[right])


def _overlay(rgb: npt.NDArray[np.float32], flags: Array, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """A tint inside and a smooth line around one label, blended into `rgb` in place."""
    if not flags.any():
        return
    soft = Image.fromarray(flags.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    cover = ndimage.gaussian_filter(np.asarray(soft), 1.0)
    inside = cover > 0.5
    # The line's opacity falls off with the distance from the outline in pixels, which smooths its steps.
    slope = np.maximum(np.hypot(*np.gradient(cover)), 1e-3)
    line = np.clip(1.6 - np.abs(cover - 0.5) / slope, 0, 1)
    opacity = np.maximum(line, _OVERLAY * inside)[:, :, None]
    rgb *= 1 - opacity
    rgb += opacity * np.asarray(colour, dtype=np.float32)


def _letters(draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, right: str, down: str) -> None:
    """Where the panel's edges point to, and the view's name."""
    opposite = {a: b for pair in ENDS for a, b in (pair, pair[::-1])}
    (left, top), middle, font = corner, _PANEL // 2, _font(17)
    for letter, place, anchor in (
        (opposite[right], (left + 8, top + middle), "lm"),
        (right, (left + _PANEL - 8, top + middle), "rm"),
        (opposite[down], (left + middle, top + 7), "mt"),
        (down, (left + middle, top + _PANEL - 8), "mb"),
    ):
        draw.text(place, letter, _INK, font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    draw.text((left + 9, top + 8), name, _DIM, _font(14), anchor="lt", stroke_width=2, stroke_fill=(0, 0, 0))


def _legend(draw: ImageDraw.ImageDraw, labels: list[dict[str, Any]], size: tuple[int, int]) -> None:
    """Colour, name and volume of as many labels as there is room for."""
    notice, font = "research use, not for diagnosis", _font(15)
    middle = size[1] - _FOOT // 2 - 4
    draw.text((size[0] - _GAP, middle), notice, _DIM, _font(14), anchor="rm")
    room, left = size[0] - 3 * _GAP - draw.textlength(notice, _font(14)), float(_GAP)
    for label in labels:
        name, volume = str(label["name"])[:40], f"{label['volume_ml']:,.0f} ml"
        name_width, volume_width = draw.textlength(name, font), draw.textlength(volume, font)
        if left + 30 + name_width + volume_width > room:
            draw.text((left, middle), "…", _INK, font, anchor="lm")
            return
        draw.rounded_rectangle((left, middle - 7, left + 14, middle + 7), 3, _colour(label))
        draw.text((left + 22, middle), name, _INK, font, anchor="lm")
        draw.text((left + 30 + name_width, middle), volume, _DIM, font, anchor="lm")
        left += 54 + name_width + volume_width


def _colour(label: dict[str, Any]) -> tuple[int, int, int]:
    return PALETTE[(label["value"] - 1) % len(PALETTE)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
