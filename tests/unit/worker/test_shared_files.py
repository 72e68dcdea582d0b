"""Files that all versions of a model share are read once, and again when they have changed."""

import hashlib
import os
from pathlib import Path

from worker.engine.shared_files import SharedFiles


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_lies_in_a_version_is_not_shared(tmp_path: Path) -> None:
    for name in ("config.json", "2", "text/config.json", "1/model.onnx", "1/text/config.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert SharedFiles(tmp_path).digests() == {
        name: sha256(name.encode()) for name in ("2", "config.json", "text/config.json")
    }


def test_a_file_is_read_again_when_its_time_or_size_has_changed(tmp_path: Path) -> None:
    path, shared = tmp_path / "config.json", SharedFiles(tmp_path)

    def written(content: bytes, at: int) -> str:
        # As whoever copies files does: another one comes in its place, and may have the time of the first.
        other = tmp_path / "other"
        other.write_bytes(content)
        os.utime(other, ns=(at, at))
        other.replace(path)
        return shared.digests()["config.json"]

    assert written(b"{}", 1_000) == sha256(b"{}")
    assert written(b"[]", 1_000) == sha256(b"[]")
    assert written(b"[]", 2_000) == sha256(b"[]")
    assert written(b"[1]", 2_000) == sha256(b"[1]")


def test_a_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    path, shared = tmp_path / "config.json", SharedFiles(tmp_path)
    path.write_bytes(b"{}")
    assert shared.digests()
    path.unlink()
    assert shared.digests() == {}
