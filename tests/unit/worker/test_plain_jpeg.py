"""JPEG files that go straight into an array: the pixels are Pillow's, and so is what becomes of damaged ones."""

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fleet.errors import FleetError
from worker.media import picture_decode
from worker.media.jpeg_decode import plain_jpeg
from worker.media.picture_decode import DecodedPicture, decode_picture
from worker.media.picture_limits import PictureLimits

LIMITS = PictureLimits()
KINDS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "quality": 30},
    "finest": {"quality": 100},
    "coarsest": {"quality": 1},
    "restarts": {"restart_marker_blocks": 3},
    "RGB as it is": {"keep_rgb": True},
    "profile and comment": {"icc_profile": b"not a profile", "comment": b"x" * 9},
}
SIZES = [(1, 1), (7, 3), (8, 8), (17, 33), (100, 75), (641, 480)]


def jpeg(size: tuple[int, int], **how: Any) -> bytes:
    width, height = size
    rows = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows[: height // 2] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    file = io.BytesIO()
    Image.fromarray(rows).save(file, "JPEG", **({"quality": 90} | how))
    return file.getvalue()


def by_pillow(content: bytes, monkeypatch: pytest.MonkeyPatch) -> DecodedPicture:
    with monkeypatch.context() as patch:
        patch.setattr(picture_decode, "plain_jpeg", lambda image, file: None)
        return decode_picture(content, LIMITS)


def taken_straight(content: bytes) -> bool:
    file = io.BytesIO(content)
    with Image.open(file) as image:
        return plain_jpeg(image, file) is not None


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_pillow(kind: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    content = jpeg(size, **KINDS[kind])
    assert taken_straight(content)
    straight, pillows = decode_picture(content, LIMITS), by_pillow(content, monkeypatch)
    assert np.array_equal(straight.pixels, pillows.pixels)
    assert straight.pixels.flags.c_contiguous
    assert (straight.size, straight.about) == (pillows.size, pillows.about)


def test_what_lies_on_a_side_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg((40, 20), exif=exif)
    decoded = decode_picture(content, LIMITS)
    assert decoded.size == (20, 40)
    assert decoded.about == {"format": "jpeg", "mode": "RGB", "orientation": 6}
    assert np.array_equal(decoded.pixels, by_pillow(content, monkeypatch).pixels)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_left_to_pillow(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (9, 9), 77 if mode == "L" else (1, 2, 3, 4)).save(file, "JPEG")
    assert not taken_straight(file.getvalue())
    assert decode_picture(file.getvalue(), LIMITS).about["mode"] == mode


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def without_end(content: bytes) -> bytes:
    return content[:-2]


def with_a_tail(content: bytes) -> bytes:
    return content + b"and more" * 99


def damaged(seed: int) -> Callable[[bytes], bytes]:
    def of(content: bytes) -> bytes:
        chance, made = random.Random(seed), bytearray(content)
        for _ in range(chance.choice([1, 3, 20])):
            made[chance.randrange(2, len(made))] = chance.randrange(256)
        return bytes(made)

    return of


HARMS: list[Any] = [cut, without_end, with_a_tail, *(pytest.param(damaged(n), id=f"damaged {n}") for n in range(60))]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kind", ["4:2:0", "progressive"])
def test_damage_is_told_as_pillow_tells_it(
    kind: str, harm: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = harm(jpeg((100, 75), **KINDS[kind]))

    def outcome(read: Callable[[], DecodedPicture]) -> tuple[object, ...]:
        try:
            decoded = read()
        except FleetError as error:
            return error.code, str(error)
        return decoded.size, decoded.about, decoded.pixels.tobytes()

    straight = outcome(lambda: decode_picture(content, LIMITS))
    assert straight == outcome(lambda: by_pillow(content, monkeypatch))
