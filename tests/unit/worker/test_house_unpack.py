"""Archives of strangers: only plain files come out, within the folder, and no more of them than may."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from fleet.errors import FleetError, ModelError
from worker.house.child import run_in_child
from worker.house.unpack import unpack

MIB = 1024 * 1024


def tar(*entries: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


def zipped(*names: str, mode: int = 0o100644, content: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        (zipped("../outside"), "unsafe-archive"),
        (zipped("/outside"), "unsafe-archive"),
        (zipped("a/../../outside"), "unsafe-archive"),
        (zipped("..\\outside"), "unsafe-archive"),
        (zipped("link", mode=0o120777), "unsafe-archive"),
        (zipped("model.onnx", "MODEL.onnx"), "unsafe-archive"),
        (zipped("a", "a/b"), "unsafe-archive"),
        (zipped("n" * 300), "unsafe-archive"),
        (zipped("large", content=bytes(MIB + 1)), "decompression-bomb"),
        (zipped(*(f"{n}" for n in range(2001))), "too-many-files"),
        (zipped("model.onnx")[:-30] + bytes(30), None),
        (tar(entry("../outside", size=1)), "unsafe-archive"),
        (tar(entry("link", tarfile.SYMTYPE, "/etc/passwd")), "unsafe-archive"),
        (tar(entry("a"), entry("b", tarfile.LNKTYPE, "a")), "unsafe-archive"),
        (tar(entry("pipe", tarfile.FIFOTYPE)), "unsafe-archive"),
        (tar(entry("large", size=MIB + 1)), "decompression-bomb"),
        (tar(entry("whole", size=100_000))[:-20], "corrupt-archive"),
    ],
    ids=lambda value: "bytes" if isinstance(value, bytes) else str(value),
)
def test_nothing_leads_outside_or_grows_beyond_its_bounds(tmp_path: Path, archive: bytes, code: str | None) -> None:
    (tmp_path / "archive").write_bytes(archive)
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    if code is None:
        assert not unpack(tmp_path / "archive", folder, MIB)
    else:
        with pytest.raises(FleetError) as refused:
            unpack(tmp_path / "archive", folder, MIB)
        assert refused.value.code == code
    assert not [path for path in (tmp_path / "in").iterdir() if path != folder]
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_a_header_that_is_a_bomb_costs_the_child_its_life_and_no_memory_of_the_worker(tmp_path: Path) -> None:
    bomb = entry("x", tarfile.XHDTYPE, size=256 * MIB).tobuf(tarfile.GNU_FORMAT)
    with gzip.open(tmp_path / "archive", "wb", compresslevel=1) as out:
        out.write(bomb)
        for _ in range(256):
            out.write(bytes(MIB))
    request = {"path": str(tmp_path / "archive"), "folder": str(tmp_path), "members": None, "max_bytes": MIB}
    with pytest.raises(ModelError) as refused:
        run_in_child("unpack", request, limit_s=300, most_bytes=64 * MIB, check=lambda: None)
    assert refused.value.code == "not-enough-memory"


def test_the_child_unpacks_whole_archives_and_members(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zipped("1/model.onnx", "other"))
    request = {"path": str(tmp_path / "archive"), "folder": str(tmp_path / "all"), "max_bytes": MIB}
    limits = {"limit_s": 60, "most_bytes": 64 * MIB, "check": lambda: None}
    assert run_in_child("unpack", {**request, "members": None}, **limits) == {"archive": True}
    assert (tmp_path / "all" / "1" / "model.onnx").read_bytes() == b"x"
    some = {**request, "folder": str(tmp_path / "some"), "members": {"other": "1/model.onnx"}}
    run_in_child("unpack", some, **limits)
    assert [path.name for path in (tmp_path / "some" / "1").iterdir()] == ["model.onnx"]
    with pytest.raises(FleetError) as missing:
        run_in_child("unpack", {**some, "members": {"nothing": "x"}}, **limits)
    assert missing.value.code == "member-missing"
