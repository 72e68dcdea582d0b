"""Pictures from strangers, decoded in a process of their own: each becomes upright RGB, or a clear error."""

import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fleet.errors import InputError, InputTooLarge, RunStopped, UnsupportedMedia
from tests.support.pictures import encoded, noise, png_bomb, webp_bomb, with_orientation
from worker.contract import Array, Picture, Source
from worker.media.child import Children
from worker.media.picture_limits import PictureLimits
from worker.media.pictures import PictureReader, _PictureChild
from worker.pictures.items import Pictures

LIMITS = PictureLimits(max_bytes=2_000_000, max_pixels=4_000_000, max_aspect=50, max_files=50, max_seconds=20)
Read = Callable[..., Picture]


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PictureReader]:
    reader = PictureReader(LIMITS, tmp_path_factory.mktemp("scratch"))
    yield reader
    reader.close()


@pytest.fixture
def pictures(reader: PictureReader, tmp_path: Path) -> Callable[..., Pictures]:
    count = iter(range(1000))

    def call(*files: bytes, alpha: str = "white") -> Pictures:
        sources = []
        for content in files:
            path = tmp_path / f"input-{next(count)}"
            path.write_bytes(content)
            sources.append(Source(path, f"{path.name}.any", ""))
        return reader.pictures(sources, alpha)  # type: ignore[arg-type]

    return call


@pytest.fixture
def read(pictures: Callable[..., Pictures]) -> Read:
    def call(content: bytes, alpha: str = "white") -> Picture:
        return pictures(content, alpha=alpha).items[0].read(lambda what, peak, scratch=0: None, nothing)

    return call


@pytest.fixture
def refusal(read: Read) -> Callable[[bytes], InputError]:
    def call(content: bytes) -> InputError:
        with pytest.raises(InputError) as caught:
            read(content)
        return caught.value

    return call


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_a_lossless_format_gives_its_pixels(read: Read, kind: str, options: dict[str, object]) -> None:
    picture = read(encoded(noise(), kind, **options))
    np.testing.assert_array_equal(picture.array, noise())
    assert picture.about["format"] == kind.lower()
    assert picture.size == (61, 43)


def test_a_jpeg_is_what_pillow_makes_of_it(read: Read, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(noise(300, 200), "JPEG", quality=80))
    np.testing.assert_array_equal(
        read((tmp_path / "a.jpg").read_bytes()).array, np.asarray(Image.open(tmp_path / "a.jpg"))
    )


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_many_frames_the_first_is_read(read: Read, kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read(content).array[5, 5].astype(int), [255, 0, 0], atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(read: Read, orientation: int) -> None:
    """Against what OpenCV and browsers show: the stored rows and columns, as the tag places them."""
    lying = noise(40, 24)
    upended = lying.transpose(1, 0, 2)
    shown = {
        1: lying, 2: lying[:, ::-1], 3: lying[::-1, ::-1], 4: lying[::-1],
        5: upended, 6: upended[:, ::-1], 7: upended[::-1, ::-1], 8: upended[::-1],
    }[orientation]  # fmt: skip
    picture = read(with_orientation(lying, orientation))
    assert picture.about["orientation"] == orientation
    np.testing.assert_allclose(picture.array.astype(int), shown.astype(int), atol=6)


def test_a_tiff_is_turned_once(read: Read) -> None:
    picture = read(encoded(noise(40, 24), "TIFF", tiffinfo={274: 6}))
    np.testing.assert_array_equal(picture.array, noise(40, 24).transpose(1, 0, 2)[:, ::-1])
    assert picture.about["orientation"] == 6


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "I;16"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_tiff_on_its_side_is_turned_whatever_its_pixels_are(read: Read, mode: str, orientation: int) -> None:
    """Pillow maps these into memory when it is given a path, and takes the rows of the turned picture for theirs."""
    deep = (np.arange(24 * 40, dtype=np.uint16) * 67).reshape(24, 40)
    lying = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(noise(40, 24)).convert(mode)
    flat = read(encoded(lying, "TIFF")).array
    upended = flat.transpose(1, 0, 2)
    shown = {5: upended, 6: upended[:, ::-1], 7: upended[::-1, ::-1], 8: upended[::-1]}[orientation]
    np.testing.assert_array_equal(read(encoded(lying, "TIFF", tiffinfo={274: orientation})).array, shown)


def test_a_deep_tiff_whose_zeros_are_white_is_shown_so(read: Read) -> None:
    """Pillow turns over 8 bits, when it reads and when it writes, and leaves 16 as they are."""
    grey = np.full((10, 20), 0x4000, np.uint16)
    grey[:, 10:] = 0
    picture = read(encoded(Image.fromarray(grey), "TIFF", tiffinfo={262: 0})).array
    assert picture[5, 5].tolist() == [0xBF] * 3
    assert picture[5, 15].tolist() == [255] * 3


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_orientation_that_does_not_exist_is_none(read: Read, orientation: int) -> None:
    assert read(with_orientation(noise(40, 24), orientation)).size == (40, 24)


def test_what_is_transparent_shows_white(read: Read) -> None:
    content = encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG")
    assert read(content).array[3, 3].tolist() == [255, 255, 255]
    assert read(content, alpha="drop").array[3, 3].tolist() == [255, 0, 0]


def test_half_transparent_is_half_white(read: Read) -> None:
    assert read(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "PNG")).array[0, 0].tolist() == [127] * 3


def palette(transparent: bool) -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    return encoded(image, "PNG", **({"transparency": 1} if transparent else {}))


def test_a_palette_becomes_its_colours(read: Read) -> None:
    assert read(palette(transparent=False)).array[0, 0].tolist() == [40, 50, 60]


def test_a_transparent_colour_of_a_palette_shows_white(read: Read) -> None:
    assert read(palette(transparent=True)).array[0, 0].tolist() == [255, 255, 255]


def test_a_transparent_colour_without_alpha_shows_white(read: Read) -> None:
    content = encoded(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert read(content).array[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_grey_is_scaled_and_not_clipped(read: Read, kind: str) -> None:
    deep = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    grey = read(encoded(Image.fromarray(deep), kind)).array
    np.testing.assert_array_equal(grey[:, :, 0], deep >> 8)
    np.testing.assert_array_equal(grey[:, :, 0], grey[:, :, 2])


@pytest.mark.parametrize(("mode", "expected"), [("1", 255), ("L", 77)])
def test_grey_becomes_three_channels(read: Read, mode: str, expected: int) -> None:
    assert read(encoded(Image.new(mode, (8, 8), expected), "PNG")).array[4, 4].tolist() == [expected] * 3


def test_cmyk_is_converted(read: Read) -> None:
    picture = read(encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95))
    np.testing.assert_allclose(picture.array[8, 8].astype(int), [0, 255, 255], atol=6)


@pytest.mark.parametrize("profile", [b"", b"not a profile" * 40])
def test_a_colour_profile_changes_nothing(read: Read, profile: bytes) -> None:
    np.testing.assert_array_equal(read(encoded(noise(), "PNG", icc_profile=profile)).array, noise())


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-input"),
        (b"GIF89a", "corrupt-picture"),
        (b"hello, world", "not-a-picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-a-picture"),
        (b"<!DOCTYPE html><html></html>", "not-a-picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not-a-picture"),
        (b"%PDF-1.7\n", "not-a-picture"),
        (encoded(noise(), "JPEG")[:20], "corrupt-picture"),
        (encoded(noise(300, 200), "JPEG")[:1500], "corrupt-picture"),
        (encoded(noise(300, 200), "PNG")[:-60], "corrupt-picture"),
        (encoded(noise(300, 200), "WEBP")[:200], "corrupt-picture"),
        (encoded(noise(300, 200), "TIFF")[:5000], "corrupt-picture"),
        (encoded(noise(300, 200), "BMP")[:5000], "corrupt-picture"),
        (encoded(noise(), "PPM"), "not-a-picture"),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "unsupported-pixels"),
        (encoded(Image.fromarray(np.full((4, 4), 200, np.int32)), "TIFF"), "unsupported-pixels"),
        (encoded(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)), "TIFF"), "unsupported-pixels"),
        (png_bomb(30_000, 30_000), "too-many-pixels"),
        (png_bomb(2_000, 2_100), "too-many-pixels"),
        (webp_bomb(16_000, 16_000), "too-many-pixels"),
        (encoded(noise(1, 5000), "PNG"), "extreme-aspect"),
        (b"\xff\xd8\xff" + bytes(2_000_000), "too-many-bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hostile_file_ends_in_a_clear_error(
    refusal: Callable[[bytes], InputError], content: bytes, code: str
) -> None:
    error = refusal(content)
    assert error.code == code
    assert not error.retryable


def test_what_people_send_instead_is_named(refusal: Callable[[bytes], InputError]) -> None:
    assert "SVG" in refusal(b"<svg/>").message
    assert "HTML" in refusal(b"  <html>").message


@pytest.mark.parametrize("content", [encoded(noise(1, 1), "PNG"), encoded(noise(50, 1), "PNG")])
def test_a_tiny_picture_is_one(read: Read, content: bytes) -> None:
    assert min(read(content).size) == 1


def test_a_bomb_takes_no_memory_to_speak_of(reader: PictureReader, tmp_path: Path) -> None:
    """Were it decoded, 900 million pixels would take most of a gigabyte and more."""
    asked: list[int] = []
    (tmp_path / "bomb.png").write_bytes(png_bomb(30_000, 30_000))
    with pytest.raises(InputTooLarge):
        reader.pictures([Source(tmp_path / "bomb.png", "", "")]).items[0].read(
            lambda what, peak, scratch=0: asked.append(peak), nothing
        )
    assert asked == []


def test_memory_is_asked_for_before_a_large_picture_is_decoded(reader: PictureReader, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(encoded(np.zeros((1900, 2000, 3), np.uint8), "PNG"))
    item = reader.pictures([Source(tmp_path / "large.png", "", "")]).items[0]
    asked: list[int] = []
    assert item.read(lambda what, peak, scratch=0: asked.append(peak), nothing).size == (2000, 1900)
    assert asked[0] > 4 * 1900 * 2000
    assert asked[-1] == 3 * 1900 * 2000

    def refuse(what: str, peak_bytes: int, scratch_bytes: int = 0) -> None:
        raise InputTooLarge(f"{what} does not fit", code="not-enough-memory")

    with pytest.raises(InputTooLarge, match="2000 × 1900 pixels does not fit"):
        item.read(refuse, nothing)


def test_a_stopped_run_ends_the_decoding(pictures: Callable[..., Pictures]) -> None:
    def stopped() -> None:
        raise RunStopped("cancelled", code="cancelled")

    with pytest.raises(RunStopped):
        pictures(encoded(noise(), "PNG")).items[0].read(lambda what, peak, scratch=0: None, stopped)


def test_one_input_is_no_list(pictures: Callable[..., Pictures]) -> None:
    assert not pictures(encoded(noise(), "PNG")).many
    assert pictures(*[encoded(noise(), "PNG")] * 2).many


def zipped(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path.read_bytes()


def test_a_zip_is_as_many_items_as_it_holds_files(pictures: Callable[..., Pictures], tmp_path: Path) -> None:
    files = {
        "a/cat.png": encoded(noise(), "PNG"),
        "__MACOSX/a/._cat.png": b"litter",
        "a/": b"",
        "readme.txt": b"not a picture",
        "large.bin": bytes(3_000_000),
        "inner.zip": zipped(tmp_path / "inner.zip", {"a": b"b"}),
    }
    found = pictures(zipped(tmp_path / "a.zip", files))
    assert found.many
    assert [item.name for item in found.items] == ["a/cat.png", "readme.txt", "large.bin", "inner.zip"]
    codes = []
    for item in found.items:
        try:
            codes.append(item.read(lambda what, peak, scratch=0: None, nothing).name)
        except InputError as error:
            codes.append(error.code)
    assert codes == ["a/cat.png", "not-a-picture", "too-many-bytes", "nested-archive"]


def test_a_zip_may_name_its_pictures_by_the_time_of_day(pictures: Callable[..., Pictures], tmp_path: Path) -> None:
    found = pictures(zipped(tmp_path / "a.zip", {"2026-01-01T12:30.png": encoded(noise(), "PNG")}))
    assert [item.name for item in found.items] == ["2026-01-01T12:30.png"]


def test_a_zip_beside_a_picture_is_opened_too(pictures: Callable[..., Pictures], tmp_path: Path) -> None:
    found = pictures(
        encoded(noise(), "PNG"), zipped(tmp_path / "a.zip", {name: encoded(noise(), "PNG") for name in "ab"})
    )
    assert len(found.items) == 3


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, "no-pictures"),
        ({"../evil.png": b"x"}, "unsafe-archive"),
        ({f"{k}": b"x" for k in range(51)}, "too-many-files"),
    ],
)
def test_an_unusable_zip_is_refused_whole(
    pictures: Callable[..., Pictures], tmp_path: Path, files: dict[str, bytes], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        pictures(zipped(tmp_path / "a.zip", files))
    assert caught.value.code == code


def test_an_entry_that_lies_nowhere_fails_alone(pictures: Callable[..., Pictures], tmp_path: Path) -> None:
    """Not as a fault of the worker's disk: that would end the whole job, and be tried again."""
    content = bytearray(zipped(tmp_path / "a.zip", {"a.png": b"x" * 100, "b.png": encoded(noise(), "PNG")}))
    end = content.rfind(b"PK\x05\x06")
    directory = int.from_bytes(content[end + 16 : end + 20], "little")
    # All places are counted from here, so that the first entry's is before the file's beginning.
    content[end + 16 : end + 20] = (directory + 50).to_bytes(4, "little")
    with pytest.raises(InputError) as caught:
        pictures(bytes(content)).items[0].read(lambda what, peak, scratch=0: None, nothing)
    assert caught.value.code == "corrupt-zip"


def test_the_directory_of_a_zip_is_not_read_where_no_zip_needs_so_much(
    pictures: Callable[..., Pictures], tmp_path: Path
) -> None:
    content = zipped(tmp_path / "a.zip", {"a": b""})
    begin, end = content.find(b"PK\x01\x02"), content.rfind(b"PK\x05\x06")
    entries = content[begin:end] * 10_000
    ending = content[end : end + 12] + len(entries).to_bytes(4, "little") + content[end + 16 :]
    with pytest.raises(InputTooLarge) as caught:
        pictures(content[:begin] + entries + ending)
    assert caught.value.code == "too-many-files"
    assert "directory" in caught.value.message


def test_a_cut_off_zip_is_refused(pictures: Callable[..., Pictures], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        pictures(zipped(tmp_path / "a.zip", {"a.png": encoded(noise(), "PNG")})[:-30])
    assert caught.value.code == "corrupt-zip"


def test_an_input_that_was_not_fetched_fails_alone(reader: PictureReader, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(noise(), "PNG"))
    lost = Source(tmp_path / "b", "b", "", fault=UnsupportedMedia("gone", code="url-not-served"))
    first, second = reader.pictures([Source(tmp_path / "a.png", "a", ""), lost]).items
    array: Array = first.read(lambda what, peak, scratch=0: None, nothing).array
    assert array.shape == (43, 61, 3)
    with pytest.raises(UnsupportedMedia, match="gone"):
        second.read(lambda what, peak, scratch=0: None, nothing)


def asked_of(path: Path, content: bytes) -> dict[str, object]:
    path.write_bytes(content)
    return {"path": str(path), "alpha": "white", "limits": asdict(LIMITS)}


def unasked(what: str, memory: int, files: int) -> None:
    pass


def width(child: _PictureChild, answer: dict[str, Any]) -> int:
    return int(answer["decoded"]["width"])


def test_more_readers_than_cores_share_the_children_that_there_are(tmp_path: Path) -> None:
    """To start one costs as much as decoding fifty photographs."""
    started = []

    def start() -> _PictureChild:
        started.append(_PictureChild(tmp_path))
        return started[-1]

    request = asked_of(tmp_path / "a.png", encoded(noise(), "PNG"))
    children = Children(start, 2, patience_s=60)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(children.ask, request, 20, nothing, unasked, width) for _ in range(24)]
        assert [answer.result() for answer in asked] == [61] * 24
    assert len(started) == 2
    children.close()


def test_who_waits_too_long_for_a_child_gets_one_more(tmp_path: Path) -> None:
    """The one at work may wait for memory that the waiting run holds."""
    children, freed = Children(partial(_PictureChild, tmp_path), 1, patience_s=0.01), threading.Event()
    large, small = (
        asked_of(tmp_path / f"{side}.png", encoded(noise(side, side), "PNG", compress_level=1)) for side in (1500, 50)
    )

    def admit(what: str, memory: int, files: int) -> None:
        assert freed.wait(20)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(children.ask, large, 20, nothing, admit, width)
        assert children.ask(small, 20, nothing, admit, width) == 50
        freed.set()
        assert first.result() == 1500
    children.close()
