import numpy as np
import pytest

from worker.contract import Array
from worker.pictures import channels, resize


@pytest.fixture(params=["with OpenCV", "without"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without":
        monkeypatch.setattr(channels, "opencv", lambda: None)
        monkeypatch.setattr(resize, "opencv", lambda: None)
    else:
        pytest.importorskip("cv2", reason="OpenCV is an optional extra")


def grain(width: int, height: int) -> Array:
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("size", [(1, 1), (31, 7), (64, 48)])
def test_channels_come_one_after_the_other(size: tuple[int, int]) -> None:
    pixels = grain(*size)
    made = channels.channels_first(pixels)
    np.testing.assert_array_equal(made, pixels.transpose(2, 0, 1))
    assert made.flags.c_contiguous
    np.testing.assert_array_equal(
        channels.channels_first(pixels[::-1, :, ::-1]), pixels[::-1, :, ::-1].transpose(2, 0, 1)
    )


@pytest.mark.usefixtures("_either_way")
def test_each_level_is_looked_up_in_the_row_of_its_channel() -> None:
    pixels = grain(64, 48)
    table = np.random.default_rng(1).normal(size=(3, 256)).astype(np.float32)
    made = channels.looked_up(pixels.transpose(2, 0, 1)[::-1], table)
    for place, channel in enumerate((2, 1, 0)):
        np.testing.assert_array_equal(made[place], table[place][pixels[..., channel]])


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("size", [(20, 12), (48, 31), (20, 30)])
def test_a_part_of_a_picture_is_filled_with_the_same_pixels(size: tuple[int, int]) -> None:
    picture, canvas = grain(48, 31), np.full((40, 60, 3), 114, np.uint8)
    resize.linear_into(picture, canvas[3 : 3 + size[1], 5 : 5 + size[0]])
    expected = np.full((40, 60, 3), 114, np.uint8)
    expected[3 : 3 + size[1], 5 : 5 + size[0]] = resize.linear_by_numpy(picture, size)
    np.testing.assert_array_equal(canvas, expected)
