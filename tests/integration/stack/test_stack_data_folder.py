"""What a data folder must be like, and what is said when it is not."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.stack import Stack, binaries, root
from cli.stack.layout import Layout
from cli.stack.state import State, load, save
from fleet.errors import ValidationFailed

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must step down for PostgreSQL")


def test_records_of_another_postgresql_are_refused(tmp_path: Path) -> None:
    major = binaries.postgres_major(binaries.postgres_programs())
    # One that nobody has installed.
    state = State(postgres_major=9)
    layout = Layout(tmp_path)
    layout.create()
    state.complete([])
    save(layout, state)
    with pytest.raises(ValidationFailed, match=f"made by PostgreSQL 9, and PostgreSQL {major}"):
        Stack(tmp_path, api=False, workers=0).start()
    assert load(layout).postgres_major == 9


def test_damaged_state_is_refused_without_repeating_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"secrets": {"redis": "very-secret"}, "ports": "none"}', "utf-8")
    with pytest.raises(ValidationFailed, match=r"stack\.json is damaged") as caught:
        Stack(tmp_path, api=False, workers=0).start()
    assert "very-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_data_without_their_passwords_are_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(ValidationFailed, match=r"has data but no stack\.json"):
        Stack(tmp_path, api=False, workers=0).start()


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValidationFailed, match="cannot be used"):
        Stack(tmp_path / "file", api=False, workers=0).start()


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without `unshare`, and a folder in which other users may look up names."""
    monkeypatch.setenv("PATH", str(tmp_path))
    open_folder = Path(tempfile.mkdtemp(prefix="fleet-test-"))
    open_folder.chmod(0o711)
    yield open_folder
    shutil.rmtree(open_folder)


@as_root
def test_root_without_namespaces_runs_postgresql_as_nobody(no_namespaces: Path) -> None:
    assert root.unprivileged().mode == "nobody"
    closed = root.closed_folder(binaries.postgres_programs())
    if closed is not None:
        pytest.skip(f"the Python environment lies below {closed}, which other users cannot enter")
    data = no_namespaces / "data"
    with Stack(data, api=False, workers=0, durable=False) as stack:
        assert Path(f"/proc/{stack.pids['postgres']}").stat().st_uid != 0
    with Stack(data, api=False, workers=0, durable=False):
        assert stat.S_IMODE(data.stat().st_mode) == 0o711
        assert stat.S_IMODE((data / "stack.json").stat().st_mode) == 0o600


@as_root
def test_root_without_namespaces_is_told_which_folder_is_closed(no_namespaces: Path) -> None:
    closed = no_namespaces / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ValidationFailed, match=f"`nobody` cannot enter {closed}"):
        Stack(closed / "data", api=False, workers=0, durable=False).start()
