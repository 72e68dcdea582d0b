"""`requirements/install.py`: an environment is made once, and one that was cut short is never taken for whole."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.clone import ROOT

SCRIPTS = ("install.sh", "install.py")


def load_installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("installer", ROOT / "requirements" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


installer = load_installer()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with pins that no package can satisfy."""
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    for name in SCRIPTS:
        shutil.copy(ROOT / "requirements" / name, requirements / name)
    for name in installer.SETS:
        (requirements / f"{name}.txt").write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    for folder in installer.PACKAGES:
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(ROOT / folder / "pyproject.toml", tmp_path / folder / "pyproject.toml")
    return tmp_path


def finished(clone: Path, name: str) -> Any:
    """As after a complete installation, without its packages."""
    environment = installer.Environment(clone)
    environment.python.parent.mkdir(parents=True, exist_ok=True)
    environment.python.unlink(missing_ok=True)
    environment.python.symlink_to(sys.executable)
    (environment.path / "pyvenv.cfg").write_text("version = 3.11.7\n")
    (environment.path / f".stamp-{name}").write_text(environment.wanted(name))
    return environment


def install(clone: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Offline, so that pip fails at once."""
    offline = {"PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    environment = os.environ | offline | variables
    script = clone / "requirements" / "install.sh"
    return subprocess.run(["sh", script, *arguments], check=False, capture_output=True, text=True, env=environment)


def test_a_finished_installation_is_used_again(clone: Path) -> None:
    environment = finished(clone, "run")
    before = environment.python.lstat().st_mtime_ns
    again = install(clone, "run")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert environment.python.lstat().st_mtime_ns == before


def test_the_larger_set_serves_for_the_smaller_but_not_the_other_way(clone: Path) -> None:
    assert finished(clone, "dev").holds("run")
    (clone / ".venv" / ".stamp-dev").unlink()
    assert not finished(clone, "run").holds("dev")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("requirements/run.txt", "==1.0", "==1.1"),
        ("pyproject.toml", "[project]", '[project]\nkeywords = ["new"]'),
        ("client/pyproject.toml", "[project]", '[project]\nkeywords = ["new"]'),
        (".venv/pyvenv.cfg", "3.11.7", "3.12.0"),
    ],
)
def test_other_pins_metadata_or_python_ask_for_a_new_installation(clone: Path, name: str, old: str, new: str) -> None:
    environment = finished(clone, "run")
    assert environment.holds("run")
    text = (clone / name).read_text()
    assert old in text
    (clone / name).write_text(text.replace(old, new, 1))
    assert not environment.holds("run")


def test_settings_of_tools_ask_for_nothing(clone: Path) -> None:
    environment = finished(clone, "run")
    path = clone / "pyproject.toml"
    path.write_text(path.read_text().replace("[tool.ruff]", "[tool.ruff]\npreview = false"))
    assert environment.holds("run")


def test_a_moved_clone_is_installed_anew(clone: Path) -> None:
    finished(clone, "run")
    moved = clone.rename(clone.with_name("moved"))
    assert not installer.Environment(moved).holds("run")
    assert not installer.Environment(moved).usable()


def test_an_installation_that_failed_leaves_no_stamp_and_says_why(clone: Path) -> None:
    failed = install(clone, "run")
    assert failed.returncode == 1
    assert "no-such-package" in failed.stderr
    assert "install.log" in failed.stderr
    assert "Traceback" not in failed.stderr
    environment = installer.Environment(clone)
    assert environment.python.exists()
    assert not environment.holds("run")
    assert not environment.usable(), "what pip left half done must not be built upon"


def test_no_python_at_all_is_said_so(clone: Path, tmp_path: Path) -> None:
    none = install(clone, "run", PYTHON=str(tmp_path / "nothing"))
    assert none.returncode == 1
    assert "needs Python 3.11 or newer" in none.stderr
    assert not (clone / ".venv").exists()


def test_a_python_without_venv_is_told_what_to_install(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Debian's is before python3-venv is there."""
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho ensurepip is not available\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(installer.sys, "executable", str(python))
    with pytest.raises(installer.InstallFailed, match=r"(?s)ensurepip.*apt install python3\.\d+-venv"):
        installer.Environment(clone).create()


def test_only_known_sets_are_accepted(clone: Path) -> None:
    assert install(clone, "everything").returncode == 2
    assert install(clone).returncode == 2


def test_progress_outside_a_terminal_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"Collecting package-{number}==1.0 (from -r run.txt)\n" for number in range(50)]
    lines += ["  Downloading big_one-1.0-py3-none-any.whl (47.7 MB)\n", "  Downloading small-1.0.whl (9.1 kB)\n"]
    installer.show_progress([*lines, "Installing collected packages: a, b\n"], 50)
    said = capsys.readouterr().out.splitlines()
    assert said == ["  25/50 package-24", "  50/50 package-49", "  50/50 downloading big_one, 47.7 MB", "  unpacking"]
