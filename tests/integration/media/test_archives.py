"""Zip files from strangers."""

import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fleet.errors import InputTooLarge, UnsupportedMedia
from tests.integration.media.conftest import SMALL, Refuse
from tests.support.media_files import dicom_files, written, zipped
from tests.support.volumes import volume_of
from worker.contract import Volume


@pytest.mark.parametrize(
    "name", ["../evil.nii", "/evil.nii", "a/../../evil.nii", "C:/evil.nii", "..\\evil.nii", "\\\\host\\share\\a.nii"]
)
def test_a_name_that_leads_outside(tmp_path: Path, refusal: Refuse, name: str) -> None:
    error = refusal(zipped(tmp_path / "a.zip", {name: b"x" * 400}))
    assert error.code == "unsafe-archive"
    assert "evil" not in error.message
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK])
def test_a_link_or_device(tmp_path: Path, refusal: Refuse, kind: int) -> None:
    entry = zipfile.ZipInfo("scan.nii")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    assert refusal(tmp_path / "a.zip").code == "unsafe-archive"


def test_an_encrypted_entry(tmp_path: Path, refusal: Refuse) -> None:
    path = zipped(tmp_path / "a.zip", {"scan.nii": b"x" * 400})
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)
    assert refusal(path).code == "encrypted-archive"


@pytest.mark.parametrize("name", ["inner.zip", "scan.nii.gz", "scan.bz2"])
def test_an_archive_in_an_archive(tmp_path: Path, refusal: Refuse, name: str) -> None:
    content = {"inner.zip": b"PK\x03\x04", "scan.nii.gz": b"\x1f\x8b\x08", "scan.bz2": b"BZh91AY"}[name]
    assert refusal(zipped(tmp_path / "a.zip", {name: content + bytes(50)})).code == "nested-archive"


def test_a_zip_bomb(tmp_path: Path, refusal: Refuse) -> None:
    path = zipped(tmp_path / "a.zip", {"a": bytes(30_000_000)})
    assert path.stat().st_size < 50_000
    error = refusal(path)
    assert isinstance(error, InputTooLarge)
    assert error.code == "decompression-bomb"
    assert sum(file.stat().st_size for file in tmp_path.rglob("0*")) < 8_000_000


def test_a_bomb_of_many_entries_counts_their_sum(tmp_path: Path, refusal: Refuse) -> None:
    path = zipped(tmp_path / "a.zip", {f"{k}": bytes(300_000) for k in range(8)})
    assert refusal(path).code == "decompression-bomb"


def test_declared_sizes_are_not_believed(tmp_path: Path, refusal: Refuse) -> None:
    path = zipped(tmp_path / "a.zip", {"a": bytes(3_000_000)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    assert refusal(path).code in ("corrupt-zip", "decompression-bomb")


def test_too_many_entries(tmp_path: Path, refusal: Refuse) -> None:
    path = zipped(tmp_path / "a.zip", {f"{k}": b"x" for k in range(SMALL.max_files + 1)})
    assert refusal(path).code == "too-many-files"


@pytest.mark.parametrize("cut", [30, 400])
def test_a_truncated_zip(tmp_path: Path, refusal: Refuse, oblique: Volume, cut: int) -> None:
    path = zipped(tmp_path / "a.zip", {"a.nii": written(oblique, tmp_path / "a.nii")})
    path.write_bytes(path.read_bytes()[:-cut])
    assert refusal(path).code == "corrupt-zip"


def test_a_zip_that_lost_bytes_in_the_middle(tmp_path: Path, refusal: Refuse, oblique: Volume) -> None:
    """Then the directory lies before the place that the end of the archive gives for it."""
    path = zipped(tmp_path / "a.zip", {"a.nii": written(oblique, tmp_path / "a.nii")})
    data = path.read_bytes()
    path.write_bytes(data[:100] + data[140:])
    assert refusal(path).code == "corrupt-zip"


@pytest.mark.parametrize("place", [2**40, 2**63 - 1, 2**64 - 1])
def test_a_place_beyond_all_files(tmp_path: Path, refusal: Refuse, place: int) -> None:
    """As the zip64 form can state it."""
    data = zipped(tmp_path / "a.zip", {"a": b"x" * 40}).read_bytes()
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    extra = struct.pack("<HHQ", 1, 8, place)
    entry = bytearray(data[at:end] + extra)
    struct.pack_into("<H", entry, 30, len(extra))
    struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
    tail = bytearray(data[end:])
    struct.pack_into("<I", tail, 12, len(entry))
    (tmp_path / "a.zip").write_bytes(data[:at] + entry + tail)
    assert refusal(tmp_path / "a.zip").code == "corrupt-zip"


def test_an_entry_without_a_name(tmp_path: Path, refusal: Refuse) -> None:
    data = zipped(tmp_path / "a.zip", {"a": b"x" * 40}).read_bytes()
    at = data.index(b"PK\x01\x02")
    nameless = bytearray(data[:at] + data[at:].replace(b"a", b"", 1))
    struct.pack_into("<H", nameless, at + 28, 0)
    end = nameless.index(b"PK\x05\x06")
    struct.pack_into("<I", nameless, end + 12, end - at)
    (tmp_path / "a.zip").write_bytes(nameless)
    assert refusal(tmp_path / "a.zip").code == "unsafe-archive"


def test_a_flipped_bit_in_a_zip(tmp_path: Path, refusal: Refuse, oblique: Volume) -> None:
    member = written(oblique, tmp_path / "a.nii")
    path = zipped(tmp_path / "a.zip", {"a.nii": member}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert refusal(path).code == "corrupt-zip"


def test_an_unusual_compression(tmp_path: Path, refusal: Refuse) -> None:
    assert refusal(zipped(tmp_path / "a.zip", {"a": b"x" * 500}, zipfile.ZIP_LZMA)).code == "unsupported-encoding"


def test_an_empty_zip(tmp_path: Path, refusal: Refuse) -> None:
    assert refusal(zipped(tmp_path / "a.zip", {})).code == "empty-archive"


def test_a_zip_without_a_volume(tmp_path: Path, refusal: Refuse) -> None:
    assert refusal(zipped(tmp_path / "a.zip", {"readme.txt": b"hello"})).code == "not-a-volume"


def test_a_zip_with_two_volumes(tmp_path: Path, refusal: Refuse, oblique: Volume) -> None:
    member = written(oblique, tmp_path / "a.nii")
    error = refusal(zipped(tmp_path / "a.zip", {"a.nii": member, "b.nii": member}))
    assert isinstance(error, UnsupportedMedia)
    assert error.code == "ambiguous-archive"


def test_a_zip_with_a_volume_and_a_series(tmp_path: Path, refusal: Refuse, oblique: Volume) -> None:
    slices = {file.name: file for file in dicom_files(tmp_path / "s", oblique)}
    path = zipped(tmp_path / "a.zip", slices | {"a.nii": written(oblique, tmp_path / "a.nii")})
    assert refusal(path).code == "ambiguous-archive"


@pytest.mark.parametrize("data", ["../scan.raw", "/etc/passwd", "other.raw", ".hidden", "sub\\scan.raw", "C:x.raw"])
def test_an_mhd_that_points_elsewhere(tmp_path: Path, refusal: Refuse, data: str) -> None:
    written(volume_of(np.zeros((4, 5, 6), np.int16)), tmp_path / "scan.mhd")
    header = (tmp_path / "scan.mhd").read_bytes().replace(b"scan.raw", data.encode())
    members = {"case/scan.mhd": header, "case/scan.raw": tmp_path / "scan.raw", "scan.raw": tmp_path / "scan.raw"}
    assert refusal(zipped(tmp_path / "a.zip", members)).code == "detached-data"
