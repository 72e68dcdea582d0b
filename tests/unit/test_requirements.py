"""The pinned packages are what pyproject.toml asks for, each with a hash and from no index in particular."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CLIENT: dict[str, Any] = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text("utf-8"))
OURS = {"onnx-fleet", "onnx-fleet-client"}
#: The extras and groups that `requirements/lock.sh` puts into each set.
SETS: dict[str, tuple[list[str], list[str]]] = {
    "dev": (["worker", "embedded", "flower"], ["dev", "build"]),
    "run": (["worker", "embedded", "flower"], ["build"]),
    "api": ([], ["build"]),
    "worker-cpu": (["worker"], ["build"]),
    "worker-gpu": (["worker-gpu"], ["build"]),
    "flower": (["flower"], ["build"]),
}


def pins(name: str) -> dict[str, set[Version]]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    found: dict[str, set[Version]] = {}
    for package, version in re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE):
        found.setdefault(canonicalize_name(package), set()).add(Version(version))
    return found


def wanted(extras: list[str], groups: list[str]) -> list[Requirement]:
    """Everything that a set must hold, extras of our own resolved."""
    lines = [*PROJECT["project"]["dependencies"], *CLIENT["project"]["dependencies"]]
    waiting = list(extras)
    while waiting:
        for line in PROJECT["project"]["optional-dependencies"][waiting.pop()]:
            requirement = Requirement(line)
            if canonicalize_name(requirement.name) in OURS:
                waiting += requirement.extras
            else:
                lines.append(line)
    for group in groups:
        lines += [line for line in PROJECT["dependency-groups"][group] if isinstance(line, str)]
    requirements = [Requirement(line) for line in lines]
    return [requirement for requirement in requirements if canonicalize_name(requirement.name) not in OURS]


@pytest.mark.parametrize("name", SETS)
def test_a_set_pins_everything_that_is_asked_for(name: str) -> None:
    pinned = pins(name)
    for requirement in wanted(*SETS[name]):
        versions = pinned.get(canonicalize_name(requirement.name))
        assert versions, requirement.name
        assert all(requirement.specifier.contains(version) for version in versions), str(requirement)


@pytest.mark.parametrize("name", SETS)
def test_every_pin_has_a_hash_and_no_line_says_where_from(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[\w.-]+==\S+", entry) and "--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--(?:extra-)?index-url|--find-links|--trusted-host", text)


def test_dev_holds_all_of_run_at_the_same_versions() -> None:
    run, dev = pins("run"), pins("dev")
    assert {name: versions for name, versions in run.items() if dev.get(name) != versions} == {}


@pytest.mark.parametrize("name", ["api", "worker-cpu", "worker-gpu", "flower"])
def test_an_image_runs_the_versions_that_were_tested(name: str) -> None:
    dev = pins("dev")
    different = {package for package, versions in pins(name).items() if package in dev and dev[package] != versions}
    assert different == set()


def test_the_lock_script_makes_these_sets() -> None:
    script = (ROOT / "requirements" / "lock.sh").read_text("utf-8")
    for name, (extras, _) in SETS.items():
        line = re.search(rf"^pin {name}\b(.*)$", script, re.MULTILINE)
        assert line, name
        assert re.findall(r"--extra (\S+)", line[1]) == extras
    assert {path.stem for path in (ROOT / "requirements").glob("*.txt")} == SETS.keys()


def test_our_two_distributions_have_the_same_version() -> None:
    version = PROJECT["project"]["version"]
    assert CLIENT["project"]["version"] == version
    assert f"onnx-fleet-client=={version}" in PROJECT["project"]["dependencies"]
