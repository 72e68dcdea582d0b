"""Pictures that are looked at in tiles and do not fit: read band by band to disk, with the pixels of any other way."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fleet.errors import InputError, InputTooLarge, RunStopped, UnsupportedMedia
from tests.support.pictures import encoded, noise, png_bomb, with_orientation
from worker.contract import Array, Picture, Source
from worker.media import band_decode
from worker.media.band_decode import spill
from worker.media.libvips import Libvips
from worker.media.picture_decode import decode_picture
from worker.media.picture_limits import PictureLimits
from worker.media.picture_pixels import Alpha
from worker.media.pictures import PictureReader
from worker.media.spilled import Spill
from worker.pictures.on_disk import is_on_disk, mapped

#: Whatever is larger than 1,000 pixels goes to disk.
LIMITS = PictureLimits(max_pixels=1_000, max_tiled_pixels=4_000_000, max_seconds=1)
WIDE, TALL = noise(160, 100), noise(75, 170)


def everything(what: str, peak_bytes: int, scratch_bytes: int = 0) -> None:
    pass


def nothing() -> None:
    pass


@pytest.fixture
def spilled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Picture]:
    """In this process: starting one for each file would take most of the time."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    # Seven rows of WIDE, so that there are many bands and a last one that is smaller.
    monkeypatch.setattr(band_decode, "_BAND_BYTES", 160 * 3 * 7)
    monkeypatch.setattr(band_decode, "_TURNED_BAND_BYTES", 160 * 3 * 7 * 3)

    def call(content: bytes, alpha: Alpha = "white") -> Picture:
        (tmp_path / "picture").write_bytes(content)
        with tempfile.TemporaryFile(dir=tmp_path) as file:
            told = spill(tmp_path / "picture", LIMITS.tiled(), alpha, everything, file.fileno(), wanted=nothing)
            return Picture(mapped(file.fileno(), told["width"], told["height"]), about=told["about"])

    return call


def grey(mode: str) -> Image.Image:
    return Image.fromarray(noise(160, 100)[..., 0]).convert(mode)


def deep() -> Image.Image:
    return Image.fromarray((np.arange(160 * 100).reshape(100, 160) * 4).astype(np.uint16))


def clear(mode: str) -> Image.Image:
    """With alpha from nothing to all."""
    image = Image.fromarray(WIDE).convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 160).astype(np.uint8), (100, 1))))
    return image.convert(mode)


def named(transparent: bool) -> bytes:
    image = Image.fromarray(WIDE).quantize(16)
    return encoded(image, "PNG", **({"transparency": 3} if transparent else {}))


def infrared() -> bytes:
    """Four channels, of which the last one is no alpha, as aerial photographs have it."""
    return encoded(Image.frombytes("RGBX", (160, 100), clear("RGBA").tobytes()), "TIFF")


def with_extra(mode: str, kind: int) -> bytes:
    """A TIFF whose last channel is another kind of extra sample (0: of no known meaning, 1: alpha, multiplied in)."""
    content = encoded(clear(mode), "TIFF")
    extra = struct.pack("<HHI", 338, 3, 1)
    assert content.count(extra) == 1
    return content.replace(extra + struct.pack("<H", 2), extra + struct.pack("<H", kind))


def of_telephone() -> bytes:
    """A JPEG with a second one behind it."""
    file = BytesIO()
    Image.fromarray(WIDE).save(file, "MPO", save_all=True, append_images=[Image.fromarray(WIDE[::-1].copy())])
    return file.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(WIDE, "JPEG", quality=80),
    "jpeg-grey": lambda: encoded(grey("L"), "JPEG"),
    "jpeg-cmyk": lambda: encoded(Image.fromarray(WIDE).convert("CMYK"), "JPEG"),
    "jpeg-profile": lambda: encoded(WIDE, "JPEG", icc_profile=b"no profile" * 30),
    "jpeg-several": of_telephone,
    "png": lambda: encoded(WIDE, "PNG"),
    "png-grey": lambda: encoded(grey("L"), "PNG"),
    "png-bits": lambda: encoded(grey("1"), "PNG"),
    "png-alpha": lambda: encoded(clear("RGBA"), "PNG"),
    "png-grey-alpha": lambda: encoded(clear("LA"), "PNG"),
    "png-palette": lambda: named(False),
    "png-palette-clear": lambda: named(True),
    "png-clear-colour": lambda: encoded(WIDE, "PNG", transparency=(0, 0, 0)),
    "png-clear-bits": lambda: encoded(grey("1"), "PNG", transparency=0),
    "png-deep": lambda: encoded(deep(), "PNG"),
    "png-deep-clear": lambda: encoded(deep(), "PNG", transparency=4000),
    "tiff": lambda: encoded(WIDE, "TIFF"),
    "tiff-lzw": lambda: encoded(WIDE, "TIFF", compression="tiff_lzw"),
    "tiff-deflate": lambda: encoded(WIDE, "TIFF", compression="tiff_deflate"),
    "tiff-one-strip": lambda: encoded(WIDE, "TIFF", compression="tiff_lzw", strip_size=2**24),
    "tiff-grey": lambda: encoded(grey("L"), "TIFF"),
    "tiff-white-is-zero": lambda: encoded(grey("L"), "TIFF", tiffinfo={262: 0}),
    "tiff-bits": lambda: encoded(grey("1"), "TIFF"),
    "tiff-alpha": lambda: encoded(clear("RGBA"), "TIFF"),
    "tiff-infrared": infrared,
    "tiff-grey-extra": lambda: with_extra("LA", 0),
    "tiff-grey-multiplied": lambda: with_extra("LA", 1),
    "tiff-palette": lambda: encoded(Image.fromarray(WIDE).quantize(16), "TIFF"),
    "tiff-cmyk": lambda: encoded(Image.fromarray(WIDE).convert("CMYK"), "TIFF"),
    "tiff-deep": lambda: encoded(deep(), "TIFF"),
}


def at_once(content: bytes, folder: Path, alpha: Alpha = "white") -> Array:
    (folder / "whole").write_bytes(content)
    return decode_picture(folder / "whole", PictureLimits(), alpha).pixels


@pytest.mark.parametrize("kind", FILES)
def test_a_picture_in_bands_has_the_pixels_of_one_at_once(
    spilled: Callable[..., Picture], tmp_path: Path, kind: str
) -> None:
    content = FILES[kind]()
    picture = spilled(content)
    np.testing.assert_array_equal(picture.array, at_once(content, tmp_path))
    with Image.open(BytesIO(content)) as image:
        assert picture.about["format"] == (image.format or "").lower()


def test_dropped_alpha_is_dropped_in_bands(spilled: Callable[..., Picture], tmp_path: Path) -> None:
    content = FILES["png-alpha"]()
    np.testing.assert_array_equal(spilled(content, "drop").array, at_once(content, tmp_path, "drop"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_a_picture_in_bands_is_turned_upright(
    spilled: Callable[..., Picture], tmp_path: Path, kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = {
        "JPEG": lambda: with_orientation(TALL, orientation),
        "TIFF": lambda: encoded(TALL, "TIFF", tiffinfo={274: orientation}),
        "PNG": lambda: encoded(TALL, "PNG", exif=exif),
    }[kind]()
    picture = spilled(content)
    assert picture.about["orientation"] == orientation
    np.testing.assert_array_equal(picture.array, at_once(content, tmp_path))


def test_an_orientation_behind_the_pixels_of_a_png_counts(spilled: Callable[..., Picture], tmp_path: Path) -> None:
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    chunk = b"eXIf" + exif
    late = len(exif).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    plain = encoded(TALL, "PNG")
    content = plain[:-12] + late + plain[-12:]
    picture = spilled(content)
    assert picture.size == (170, 75)
    np.testing.assert_array_equal(picture.array, at_once(content, tmp_path))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (encoded(WIDE, "JPEG", progressive=True), "not-in-bands"),
        (encoded(WIDE, "WEBP"), "not-in-bands"),
        (encoded(WIDE, "BMP"), "not-in-bands"),
        (encoded(WIDE, "GIF"), "not-in-bands"),
        (encoded(Image.fromarray(np.ones((100, 160), np.float32)), "TIFF"), "not-in-bands"),
        (encoded(noise(300, 200), "JPEG")[:1500], "corrupt-picture"),
        (encoded(WIDE, "PNG")[:-100], "corrupt-picture"),
        (encoded(WIDE, "TIFF")[:5000], "corrupt-picture"),
        (png_bomb(3_000, 3_000), "too-many-pixels"),
        (b"GIF89a", "corrupt-picture"),
        (b"hello", "not-a-picture"),
        (encoded(noise(1, 5000), "PNG"), "extreme-aspect"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_in_bands_ends_in_a_clear_error(
    spilled: Callable[..., Picture], content: bytes, code: str
) -> None:
    with pytest.raises(InputError) as refused:
        spilled(content)
    assert refused.value.code == code
    assert not refused.value.retryable


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[PictureReader]:
    reader = PictureReader(LIMITS, tmp_path)
    yield reader
    reader.close()


def test_only_who_looks_at_tiles_gets_more_pixels_than_the_limit(reader: PictureReader, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(WIDE, "PNG"))
    source = Source(tmp_path / "a.png", "a.png", "")
    with pytest.raises(InputTooLarge) as refused:
        reader.pictures([source]).items[0].read(everything, nothing)
    assert refused.value.code == "too-many-pixels"
    picture = reader.pictures([source], tiled=True).items[0].read(everything, nothing)
    assert is_on_disk(picture.array)
    np.testing.assert_array_equal(picture.array, WIDE)
    assert (picture.size, picture.name) == ((160, 100), "a.png")


def test_a_picture_within_the_limit_stays_in_memory(reader: PictureReader, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(noise(20, 10), "PNG"))
    source = Source(tmp_path / "a.png", "a.png", "")
    assert not is_on_disk(reader.pictures([source], tiled=True).items[0].read(everything, nothing).array)


def test_disk_and_memory_are_asked_for_before_they_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(WIDE, "PNG"))
    asked: list[tuple[int, int]] = []

    def admit(what: str, peak_bytes: int, scratch_bytes: int = 0) -> None:
        asked.append((peak_bytes, scratch_bytes))

    Spill(LIMITS.tiled(), tmp_path).read(tmp_path / "a.png", "white", admit, nothing)
    assert [scratch for _, scratch in asked] == [160 * 100 * 3] * 2

    def refuse(what: str, peak_bytes: int, scratch_bytes: int = 0) -> None:
        raise InputTooLarge(f"{what} does not fit", code="not-enough-memory")

    with pytest.raises(InputTooLarge, match="160 × 100 pixels in bands does not fit"):
        Spill(LIMITS.tiled(), tmp_path).read(tmp_path / "a.png", "white", refuse, nothing)


def test_a_stopped_run_ends_the_reading_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(WIDE, "PNG"))

    def stopped() -> None:
        raise RunStopped("cancelled", code="cancelled")

    with pytest.raises(RunStopped):
        Spill(LIMITS.tiled(), tmp_path).read(tmp_path / "a.png", "white", everything, stopped)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_process_that_reads_ends_when_its_worker_is_gone(tmp_path: Path) -> None:
    """All that it waits for has been said by somebody who is dead by then."""
    (tmp_path / "a.png").write_bytes(encoded(WIDE, "PNG"))
    request = {"path": str(tmp_path / "a.png"), "alpha": "white", "limits": asdict(LIMITS.tiled())}
    said = f'{json.dumps(request)}\n{{"granted": true}}\n'.encode()
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        command = [sys.executable, "-P", "-m", "worker.media.band_child", str(file.fileno())]
        said_to_it, worker = os.pipe()
        try:
            os.write(worker, said)
            os.close(worker)
            ended = subprocess.run(
                command, stdin=said_to_it, stdout=subprocess.PIPE, pass_fds=[file.fileno()], check=True
            )
        finally:
            os.close(said_to_it)
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [list(answer) for answer in answers] == [["asks"]]


def test_what_the_process_finds_wrong_is_raised_here(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(WIDE, "PNG")[:-100])
    with pytest.raises(InputError) as refused:
        Spill(LIMITS.tiled(), tmp_path).read(tmp_path / "a.png", "white", everything, nothing)
    assert refused.value.code == "corrupt-picture"


def test_a_worker_without_libvips_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_libvips", None)
    with pytest.raises(UnsupportedMedia) as refused:
        Libvips()
    assert refused.value.code == "bands-unavailable"


def test_a_picture_is_read_with_less_memory_than_its_pixels_take(tmp_path: Path) -> None:
    """What the process asks for it is held to by the kernel, so that reading it at all is the proof."""
    width, height = 12_000, 9_000
    (tmp_path / "large.png").write_bytes(png_bomb(width, height))
    asked: list[int] = []

    def admit(what: str, peak_bytes: int, scratch_bytes: int = 0) -> None:
        asked.append(peak_bytes)

    limits = PictureLimits(max_tiled_pixels=width * height).tiled()
    picture = Spill(limits, tmp_path).read(tmp_path / "large.png", "white", admit, nothing)
    assert picture.size == (width, height)
    # 64 MiB come on top for threads and the allocator.
    assert max(asked) + 64 * 1024**2 < width * height * 3
    assert not picture.array[-1].any()
