"""Previews of volumes that are very thin or whose intensities are very large."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.support.volumes import volume_of
from worker.contract import Array, Volume
from worker.media.preview import draw_preview
from worker.volumes.statistics import measure

NOISE = np.random.default_rng(0).random((8, 16, 16))


def drawn(volume: Volume) -> Array:
    mask = np.zeros(volume.array.shape, np.uint8)
    mask[:, 4:12, 4:12] = 1
    return pixels(draw_preview(volume, mask, measure(mask, volume, {1: "a"}), "MR"))


def pixels(png: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 0.5), (1.0, 1.0, 0.001), (0.001, 1.0, 1.0)])
def test_a_volume_thinner_than_a_pixel_is_drawn(spacing: tuple[float, float, float]) -> None:
    array = np.tile(np.arange(512, dtype=np.int16), (2, 512, 1))
    picture = drawn(volume_of(array, spacing=spacing))
    assert len(np.unique(picture)) > 50


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e300])
def test_the_picture_does_not_depend_on_the_unit(scale: float) -> None:
    difference = drawn(volume_of(NOISE * scale)).astype(int) - drawn(volume_of(NOISE))
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "array",
    [
        np.where(NOISE > 0.5, np.float32(3e38), np.float32(-3e38)),
        ((NOISE - 0.5) * 6e38).astype(np.float32),
        (NOISE - 0.5) * 3.4e308,
        np.full(NOISE.shape, 1e300),
        np.where(NOISE > 0.5, 1e10, 0).astype(np.float32),
        np.where(NOISE > 0.5, np.inf, NOISE),
        np.where(NOISE > 0.5, np.nan, NOISE),
        np.full(NOISE.shape, np.nan),
    ],
    ids=["both-ends", "float32-range", "float64-range", "constant", "two-valued", "infinite", "nan", "only-nan"],
)
def test_extreme_intensities_are_drawn_without_a_warning(array: Array) -> None:
    mask = np.zeros(array.shape, np.uint8)
    entry = {"value": 1, "name": "a", "volume_ml": 0.0}
    assert pixels(draw_preview(volume_of(array), mask, [entry], "MR")).shape == (494, 1316, 3)
