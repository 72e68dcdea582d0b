"""Uploads: where bytes go, in which order, and who learns the key."""

import hashlib
import io
import os
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet_client import Client, InputUnusable, ObjectRef, TooLarge, Transfer, TransferFailed, Unavailable
from tests.support.protocol_server import Drop, ProtocolServer, decoded, problem
from tests.unit.client.conftest import QUICK

BIG = os.urandom(200_000)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(BIG)
    return path


@pytest.fixture
def parts_server() -> Iterator[ProtocolServer]:
    with ProtocolServer(part_size=90_000) as running:
        yield running


def test_a_file_goes_to_the_presigned_url_without_the_key(fleet: Client, server: ProtocolServer, scan: Path) -> None:
    fleet.segment(scan, model="m")
    (ticket,) = server.api.requests("POST", "/api/v1/uploads")
    assert ticket.json == {
        "name": "scan.nii.gz",
        "size": len(BIG),
        "sha256": hashlib.sha256(BIG).hexdigest(),
        "media_type": "application/gzip",
    }
    (put,) = server.store.seen
    assert put.headers["content-length"] == str(len(BIG))
    assert "transfer-encoding" not in put.headers
    assert "authorization" not in put.headers
    assert "the-key" not in str(put.headers)
    assert server.objects == {"upload-1/0": BIG}
    assert server.api.requests("POST", "/api/v1/jobs")[0].json["inputs"] == [{"upload": "upload-1"}]


def test_a_small_input_travels_within_the_request(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_bytes(b"x" * 65_536)
    fleet.submit("tensors", [path], model="m")
    (given,) = server.api.requests("POST", "/api/v1/jobs")[0].json["inputs"]
    assert decoded(given) == b"x" * 65_536
    assert (given["name"], given["media_type"]) == ("tiny.json", "application/json")
    assert server.uploads == {}


def test_a_photograph_travels_within_the_request(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    photograph = b"\xff\xd8\xff" + b"x" * (1024 * 1024 - 3)
    path = tmp_path / "street.jpg"
    path.write_bytes(photograph)
    fleet.submit(
        "object-detection", [path, photograph, photograph + b"!", photograph, photograph, photograph], model="m"
    )
    named, bare, larger, *rest, beyond = server.api.requests("POST", "/api/v1/jobs")[0].json["inputs"]
    assert decoded(named) == decoded(bare) == decoded(rest[0]) == decoded(rest[1]) == photograph
    assert (named["name"], named["media_type"]) == ("street.jpg", "image/jpeg")
    assert (bare["name"], bare["media_type"]) == ("input", "image/jpeg")
    # One is larger than a mebibyte, and the last would make more than four of all.
    assert list(larger) == list(beyond) == ["upload"]


def test_what_a_proxy_finds_too_large_is_uploaded_after_all(fleet: Client, server: ProtocolServer) -> None:
    photograph = b"\xff\xd8\xff" + b"x" * 900_000
    server.api.fail("POST", "/api/v1/jobs", (413, {"content-type": "text/html"}, b"<h1>Request Entity Too Large</h1>"))
    fleet.submit("object-detection", [photograph, ObjectRef(bucket="bucket", key="inputs/a/b.jpg")], model="m")
    refused, taken = server.api.requests("POST", "/api/v1/jobs")
    assert decoded(refused.json["inputs"][0]) == photograph
    assert taken.json["inputs"] == [{"upload": "upload-1"}, refused.json["inputs"][1]]
    assert taken.headers["idempotency-key"] == refused.headers["idempotency-key"]
    assert server.objects == {"upload-1/0": photograph}


def test_what_is_too_large_without_any_bytes_of_ours_is_told(fleet: Client, server: ProtocolServer) -> None:
    server.api.fail("POST", "/api/v1/jobs", (413, {"content-type": "text/html"}, b"<h1>Request Entity Too Large</h1>"))
    with pytest.raises(TooLarge):
        fleet.submit("object-detection", [ObjectRef(bucket="bucket", key="inputs/a/b.jpg")], model="m")


def test_a_scan_of_the_same_size_is_uploaded(fleet: Client, server: ProtocolServer) -> None:
    fleet.submit("segmentation", [b"x" * 65_537], model="m")
    (given,) = server.api.requests("POST", "/api/v1/jobs")[0].json["inputs"]
    assert list(given) == ["upload"]


def test_a_proxied_upload_goes_to_our_own_server_with_the_key(scan: Path) -> None:
    with ProtocolServer(proxy=True) as server, Client(server.url, "the-key", retries=QUICK) as fleet:
        fleet.segment(scan, model="m")
        (put,) = server.api.requests("PUT")
        assert put.headers["authorization"] == "Bearer the-key"
        assert server.objects == {"upload-1/0": BIG}


def test_parts_are_sent_in_order_and_joined(parts_server: ProtocolServer, scan: Path) -> None:
    with Client(parts_server.url, "the-key", retries=QUICK) as fleet:
        fleet.segment(scan, model="m")
    puts = parts_server.store.seen
    assert [seen.path for seen in puts] == [f"/bucket/upload-1/{number}" for number in (1, 2, 3)]
    assert [len(seen.body) for seen in puts] == [90_000, 90_000, 20_000]
    assert not any("authorization" in seen.headers for seen in puts)
    assert parts_server.objects == {"upload-1/0": BIG}


def test_a_lost_part_is_sent_again_alone(parts_server: ProtocolServer, scan: Path) -> None:
    parts_server.store.fail("PUT", "/bucket/upload-1/2", Drop, (500, {}, b""))
    with Client(parts_server.url, retries=QUICK) as fleet:
        fleet.upload(scan)
    assert [seen.path[-1] for seen in parts_server.store.seen] == ["1", "2", "2", "2", "3"]
    assert parts_server.objects == {"upload-1/0": BIG}


def test_an_expired_part_is_signed_anew(parts_server: ProtocolServer, scan: Path) -> None:
    parts_server.store.fail("PUT", "/bucket/upload-1/3", (403, {}, b"expired"))
    with Client(parts_server.url, retries=QUICK) as fleet:
        fleet.upload(scan)
    assert len(parts_server.api.requests("GET", "/api/v1/uploads/upload-1")) == 1
    assert parts_server.objects == {"upload-1/0": BIG}


def test_joining_is_tried_again(parts_server: ProtocolServer, scan: Path) -> None:
    parts_server.api.fail(
        "POST", "/api/v1/uploads/upload-1/complete", problem(503, "object-store-unavailable", "later")
    )
    with Client(parts_server.url, retries=QUICK) as fleet:
        fleet.upload(scan)
    assert parts_server.objects == {"upload-1/0": BIG}


def test_a_refusing_store_is_told_without_the_signature(fleet: Client, server: ProtocolServer, scan: Path) -> None:
    server.store.fail("PUT", "/", (403, {}, b"<Error/>"))
    with pytest.raises(TransferFailed) as caught:
        fleet.upload(scan)
    assert caught.value.status == 403
    assert "secret" not in str(caught.value)


def test_progress_reaches_the_size(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(b"0" * 3_000_000)
    heard: list[Transfer] = []
    fleet.upload(path, on_upload=heard.append)
    assert heard[-1] == Transfer("large.bin", 3_000_000, 3_000_000)
    assert [step.done for step in heard] == sorted({step.done for step in heard})
    assert len(heard) >= 3


def test_a_file_object_is_sent_from_where_it_stands(fleet: Client, server: ProtocolServer, scan: Path) -> None:
    with scan.open("rb") as file:
        file.seek(100)
        upload = fleet.upload(file)
        assert not file.closed
    assert (upload.name, upload.size) == ("scan.nii.gz", len(BIG) - 100)
    assert server.objects == {"upload-1/0": BIG[100:]}


def test_a_pipe_is_sent_whole(fleet: Client, server: ProtocolServer) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as out:
            out.write(BIG)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as file:
        fleet.upload(file)
    writer.join()
    assert server.objects == {"upload-1/0": BIG}


def test_a_retried_put_sends_the_whole_file_again(fleet: Client, server: ProtocolServer, scan: Path) -> None:
    server.store.fail("PUT", "/", Drop, (503, {}, b""))
    fleet.upload(scan)
    assert [seen.body for seen in server.store.seen] == [BIG] * 3


def test_an_upload_is_not_started_when_the_server_is_unavailable(fleet: Client, server: ProtocolServer) -> None:
    server.api.fail("POST", "/api/v1/uploads", *[problem(503, "object-store-unavailable", "later")] * 4)
    with pytest.raises(Unavailable):
        fleet.upload(BIG)
    assert server.store.seen == []


def dicom_file(content: bytes) -> bytes:
    return b"\0" * 128 + b"DICM" + content


def test_a_folder_of_dicom_files_is_sent_as_one_archive(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    series = tmp_path / "series"
    (series / "deeper").mkdir(parents=True)
    (series / "DOE^JANE.dcm").write_bytes(dicom_file(b"a" * 70_000))
    (series / "deeper" / "2").write_bytes(dicom_file(b"b"))
    (series / "notes.txt").write_bytes(b"not an image")
    (series / "DICOMDIR").write_bytes(dicom_file(b"index"))
    first, second = fleet.upload(series), fleet.upload(str(series))
    assert first.name == "series.zip"
    assert first.sha256 == second.sha256
    with zipfile.ZipFile(io.BytesIO(server.objects["upload-1/0"])) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [dicom_file(b"a" * 70_000), dicom_file(b"b")]
        assert not any("DOE" in name for name in archive.namelist())


def test_a_folder_without_dicom_files_is_refused(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"nothing")
    with pytest.raises(InputUnusable, match="no DICOM file"):
        fleet.upload(tmp_path)
    assert server.api.seen == []


def test_a_folder_of_pictures_is_sent_as_one_archive_of_them(
    fleet: Client, server: ProtocolServer, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    (photos / "deeper").mkdir(parents=True)
    pictures = {
        "b.jpg": b"\xff\xd8\xff\xe0" + bytes(70_000),
        "deeper/a.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
        "z": b"\x89PNG\r\n\x1a\n...",
    }
    for name, content in pictures.items():
        (photos / name).write_bytes(content)
    (photos / "notes.txt").write_bytes(b"not a picture")
    assert fleet.upload(photos).name == "photos.zip"
    with zipfile.ZipFile(io.BytesIO(server.objects["upload-1/0"])) as archive:
        names = archive.namelist()
        assert {name: archive.read(name) for name in names} == pictures
    assert names == ["b.jpg", "z", "deeper/a.webp"]


@contextmanager
def anybody() -> Iterator[None]:
    """Without the rights of root, who may read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are others there")
def test_a_series_of_which_a_part_cannot_be_read_is_not_sent_without_it(fleet: Client, server: ProtocolServer) -> None:
    with tempfile.TemporaryDirectory() as place:
        series = Path(place)
        series.chmod(0o755)
        (series / "1.dcm").write_bytes(dicom_file(b"a"))
        (series / "deeper").mkdir()
        (series / "deeper" / "2.dcm").write_bytes(dicom_file(b"b"))
        (series / "deeper").chmod(0)
        with anybody(), pytest.raises(InputUnusable, match="deeper cannot be read: Permission denied"):
            fleet.upload(series)
        (series / "deeper").chmod(0o755)
    assert server.api.seen == []


@pytest.mark.skipif(sys.platform != "linux", reason="file systems of others refuse such names")
def test_odd_names_become_names_that_an_archive_may_hold(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in (b"12:30.png", b"C:x.png", b"\\a\n.png", b"caf\xe9.png"):
        (photos / os.fsdecode(name)).write_bytes(b"\x89PNG\r\n\x1a\n...")
    fleet.upload(photos)
    with zipfile.ZipFile(io.BytesIO(server.objects["upload-1/0"])) as archive:
        assert sorted(archive.namelist()) == ["12:30.png", "C_x.png", "_a_.png", "caf_.png"]
    assert fleet.upload(photos / os.fsdecode(b"caf\xe9.png")).name == "caf_.png"


@pytest.mark.parametrize("place", ["s3://", "s3://bucket", "s3://bucket/", "S3:///key"])
def test_a_place_in_the_store_needs_a_bucket_and_a_key(fleet: Client, server: ProtocolServer, place: str) -> None:
    with pytest.raises(InputUnusable, match="names no object"):
        fleet.submit(None, [place], model="m")
    assert server.api.seen == []


def test_what_cannot_be_read_is_refused_before_anything_is_sent(
    fleet: Client, server: ProtocolServer, tmp_path: Path
) -> None:
    (tmp_path / "empty.nii").write_bytes(b"")
    for unusable, why in [(tmp_path / "empty.nii", "is empty"), (tmp_path / "none.nii", "No such file"), (12, "int")]:
        with pytest.raises(InputUnusable, match=why):
            fleet.upload(unusable)  # type: ignore[arg-type]
    with pytest.raises(InputUnusable, match="rb"):
        fleet.upload(io.StringIO("text"))  # type: ignore[arg-type]
    assert server.api.seen == []


def test_a_file_that_shrinks_while_it_is_sent_is_told(fleet: Client, scan: Path) -> None:
    def shrink(transfer: Transfer) -> None:
        os.truncate(scan, 1_500_000)

    scan.write_bytes(b"0" * 5_000_000)
    with pytest.raises(InputUnusable, match="became shorter"):
        fleet.upload(scan, on_upload=shrink)
