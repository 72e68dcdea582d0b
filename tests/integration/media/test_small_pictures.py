"""Pictures that the decoding process makes small: the same pixels, and the limits and the care as for whole ones."""

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import InputError, InputTooLarge
from tests.support.pictures import encoded, noise, with_orientation
from worker.contract import Array, Picture, Source
from worker.media.picture_limits import PictureLimits
from worker.media.pictures import PictureReader, _PictureChild
from worker.pictures.items import Item
from worker.pictures.preprocess import Preprocess
from worker.pictures.recipe import Recipe
from worker.pictures.shrink import Shrink

LIMITS = PictureLimits(max_bytes=2_000_000, max_pixels=4_000_000, max_aspect=50, max_files=50, max_seconds=20)
SHORTEST = Preprocess(Recipe(resize="shortest-edge", size=32, kernel="bicubic", crop=32))
#: Beyond `max_aspect`.
LINE = Preprocess(Recipe(resize="stretch", size=(2, 300), kernel="bilinear"))


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PictureReader]:
    reader = PictureReader(LIMITS, tmp_path_factory.mktemp("scratch"))
    yield reader
    reader.close()


@pytest.fixture
def item(reader: PictureReader, tmp_path: Path) -> Callable[..., Item]:
    def call(content: bytes, *, inline: bool = False) -> Item:
        path = tmp_path / "input"
        path.write_bytes(content)
        return reader.pictures([Source(path, "a", "", content=content if inline else None)]).items[0]

    return call


def small(item: Item, preprocess: Preprocess, admitted: list[tuple[str, int]] | None = None) -> Picture:
    assert preprocess.shrink is not None
    assert item.shrunk is not None
    granted = [] if admitted is None else admitted
    return item.shrunk(preprocess.shrink)(lambda what, peak, scratch=0: granted.append((what, peak)), nothing)


def whole(item: Item) -> Array:
    return item.read(lambda what, peak, scratch=0: None, nothing).array


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("folder/b.jpg", content)
    return out.getvalue()


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("preprocess", [SHORTEST, LINE])
def test_the_pixels_are_the_same_ones(item: Callable[..., Item], preprocess: Preprocess, inline: bool) -> None:
    read = item(with_orientation(noise(700, 400), 6), inline=inline)
    picture = small(read, preprocess)
    np.testing.assert_array_equal(picture.array, preprocess.resized(whole(read)))
    assert (picture.name, picture.about["orientation"]) == ("a", 6)


def test_a_picture_in_a_zip_is_made_small_too(item: Callable[..., Item]) -> None:
    content = encoded(noise(700, 400), "JPEG")
    picture = small(item(zipped(content)), SHORTEST)
    np.testing.assert_array_equal(picture.array, SHORTEST.resized(whole(item(content))))
    assert (picture.size, picture.name) == ((56, 32), "folder/b.jpg")


def test_a_picture_that_would_grow_comes_whole(item: Callable[..., Item]) -> None:
    assert small(item(encoded(noise(40, 20), "PNG")), SHORTEST).size == (40, 20)


def test_memory_is_asked_for_by_what_is_decoded_and_then_by_what_is_left(item: Callable[..., Item]) -> None:
    admitted: list[tuple[str, int]] = []
    small(item(encoded(noise(2000, 1500), "JPEG")), SHORTEST, admitted)
    (what, reading), (_, held) = admitted
    assert "2000 × 1500" in what
    assert reading > 2000 * 1500 * 3
    assert held == 42 * 32 * 3


@pytest.mark.parametrize(("size", "code"), [((2001, 2000), "too-many-pixels"), ((1001, 20), "extreme-aspect")])
def test_limits_are_for_the_picture_that_was_sent(item: Callable[..., Item], size: tuple[int, int], code: str) -> None:
    with pytest.raises(InputTooLarge, match=f"{size[0]} × {size[1]}") as caught:
        small(item(encoded(noise(*size), "PNG")), SHORTEST)
    assert caught.value.code == code
    assert caught.value.facts["width"] == size[0]


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": [400, 700, 3]},
        {"shape": [32, 55, 3]},
        {"width": 600},
        {"width": 20, "height": 20},
        {"width": 0, "height": 0},
        {"height": "9"},
        {"shape": None},
    ],
)
def test_a_decoder_that_hands_over_another_size_is_not_believed(
    item: Callable[..., Item], monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any]
) -> None:
    ask = _PictureChild.ask

    def lying(self: _PictureChild, *args: Any) -> dict[str, Any]:
        answer = ask(self, *args)
        return answer | {"decoded": answer["decoded"] | lie}

    monkeypatch.setattr(_PictureChild, "ask", lying)
    with pytest.raises(InputError) as caught:
        small(item(encoded(noise(700, 400), "PNG")), SHORTEST)
    assert caught.value.code == "decoder-crashed"


def test_a_whole_picture_follows_a_small_one_of_the_same_decoder(item: Callable[..., Item]) -> None:
    content = encoded(noise(300, 200), "PNG")
    shrink = Shrink("stretch", 8, "box")
    read = item(content)
    assert read.shrunk is not None
    for _ in range(2):
        assert read.shrunk(shrink)(lambda what, peak, scratch=0: None, nothing).size == (8, 8)
        np.testing.assert_array_equal(whole(read), noise(300, 200))
