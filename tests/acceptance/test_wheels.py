"""What the two wheels hold, and that the installed command works from anywhere but the clone."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.clone import PACKAGES, ROOT, tracked_files

PROJECTS = {"onnx_fleet": ROOT, "onnx_fleet_client": ROOT / "client"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each built from its own source archive, as a release would be, with the pinned build tools."""
    built = {}
    for name, project in PROJECTS.items():
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(project)]
        made = subprocess.run(command, check=False, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        built[name] = next(folder.glob("*.whl"))
    return built


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheels alone; what they need comes from the pinned packages of this one."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    # A path that is only named is searched without its own .pth files, so the clone stays out.
    (site / "pinned.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    offline = ["--no-deps", "--no-index", "--no-input", "--ignore-installed", "--no-warn-script-location"]
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", *offline]
    subprocess.run([*pip, *wheels.values()], check=True, capture_output=True)
    return folder


def test_the_wheels_hold_every_file_of_the_packages(wheels: dict[str, Path]) -> None:
    held = {name for wheel in wheels.values() for name in zipfile.ZipFile(wheel).namelist()}
    folders = tuple(f"{package}/" for package in PACKAGES)
    names = [str(path.relative_to(ROOT)) for path in tracked_files()]
    expected = {name.removeprefix("client/") for name in names if name.startswith(folders)}
    assert expected
    assert expected <= held


@pytest.mark.parametrize(
    ("name", "packages"), [("onnx_fleet", {"fleet", "api", "worker", "cli"}), ("onnx_fleet_client", {"fleet_client"})]
)
def test_a_wheel_holds_nothing_but_its_packages(wheels: dict[str, Path], name: str, packages: set[str]) -> None:
    tops = {entry.split("/")[0] for entry in zipfile.ZipFile(wheels[name]).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages


@pytest.mark.parametrize("command", [["--help"], ["version"], ["migrate", "--help"], ["submit", "--help"]])
def test_the_installed_command_works_outside_the_clone(installed: Path, tmp_path: Path, command: list[str]) -> None:
    fleet = installed / "bin" / "fleet"
    ran = subprocess.run([fleet, *command], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


@pytest.mark.parametrize("package", ["fleet", "api", "worker", "cli", "fleet_client"])
def test_the_installed_packages_are_those_of_the_wheels(installed: Path, tmp_path: Path, package: str) -> None:
    command = [str(installed / "bin" / "python"), "-c", f"import {package}; print({package}.__file__)"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert Path(ran.stdout.strip()).is_relative_to(installed)
