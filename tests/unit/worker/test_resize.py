"""Pictures become another size exactly as OpenCV makes them, with it and without it."""

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import noise
from worker.contract import Array
from worker.pictures.resize import linear, linear_by_numpy, pillow

#: (width, height) of a picture, and what it becomes: smaller, larger, by half, a sliver, a dot, a pixel more.
SIZES = [
    ((270, 360), (160, 213)),
    ((60, 40), (64, 43)),
    ((200, 100), (100, 50)),
    ((91, 37), (160, 160)),
    ((500, 1), (64, 1)),
    ((5, 5), (1, 1)),
    ((1, 1), (7, 9)),
    ((120, 160), (121, 159)),
]


def grain(width: int, height: int) -> Array:
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_numpy_resizes_as_opencv_does(size: tuple[int, int], target: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is an optional extra")
    picture = grain(*size)
    np.testing.assert_array_equal(
        linear_by_numpy(picture, target), cv2.resize(picture, target, interpolation=cv2.INTER_LINEAR)
    )


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_it_makes_no_difference_whether_opencv_is_there(size: tuple[int, int], target: tuple[int, int]) -> None:
    picture = grain(*size)
    np.testing.assert_array_equal(linear(picture, target), linear_by_numpy(picture, target))


def test_two_pixels_are_weighed_by_their_distance() -> None:
    row = np.array([[[0], [100]]], np.uint8).repeat(3, axis=2)
    assert linear_by_numpy(row, (4, 1))[0, :, 0].tolist() == [0, 25, 75, 100]


def test_pillow_averages_over_all_that_a_pixel_covers() -> None:
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    assert len(np.unique(pillow(stripes, (8, 1), "box"))) == 1
    # Of eight pixels it looks at two, neither of which is white.
    assert linear_by_numpy(stripes, (8, 1)).max() == 0


def test_a_part_of_a_picture_can_be_what_fills_it() -> None:
    picture = noise(64, 48)
    cut = Image.fromarray(picture).resize((10, 10), Image.Resampling.BICUBIC, (8, 4, 40, 36))
    np.testing.assert_array_equal(pillow(picture, (10, 10), "bicubic", (8, 4, 40, 36)), np.asarray(cut))


def test_the_same_size_is_the_same_picture() -> None:
    picture = noise(20, 10)
    assert linear(picture, (20, 10)) is picture
    assert pillow(picture, (20, 10), "bicubic") is picture
