"""The images: what they copy and install exists, and what they start is a command of ours."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.compose import read_env_file, render
from tests.support.dockerfile import PINNED, base_images, copied_from_clone, last, read_dockerfile

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
FILES = [ROOT / f"docker-compose{kind}.yml" for kind in ("", ".cpu", ".gpu")]
SERVICES: dict[str, dict[str, Any]] = render(FILES, read_env_file(ROOT / ".env.example")).services
BUILT = {name: service for name, service in SERVICES.items() if "build" in service}


@pytest.mark.parametrize("name", BUILT)
def test_the_command_of_a_service_exists(name: str) -> None:
    program, *arguments = BUILT[name]["command"]
    if program == "fleet":
        from cli.main import COMMANDS

        assert arguments[0] in COMMANDS
        helped = [sys.executable, "-m", "cli.main", *arguments, "--help"]
        assert subprocess.run(helped, check=False, capture_output=True, cwd=ROOT).returncode == 0
    else:
        from flower.options import options

        assert [program, *arguments[:3]] == ["celery", "-A", "worker.app", "flower"]
        flags = {argument.removeprefix("--").split("=")[0] for argument in arguments[3:]}
        assert flags <= {name.replace("-", "_") for name in options}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_dockerfile_copies_what_exists_and_starts_what_compose_starts(path: Path) -> None:
    instructions = read_dockerfile(path)
    for source in copied_from_clone(instructions):
        assert (ROOT / source).exists(), source
    assert all(PINNED.fullmatch(image) for image in base_images(instructions))
    command = json.loads(last(instructions, "CMD"))
    dockerfile = f"docker/{path.name}"
    started = [service["command"] for service in BUILT.values() if service["build"]["dockerfile"] == dockerfile]
    assert any(words[: len(command)] == command for words in started)
    assert last(instructions, "USER") == "10001:10001"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_the_build_context_holds_what_a_dockerfile_copies(path: Path) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    for source in copied_from_clone(read_dockerfile(path)):
        assert source in allowed or source.split("/")[0] in allowed, source


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_installs_pins_for_all_that_our_package_declares(path: Path) -> None:
    pins = next(source for source in copied_from_clone(read_dockerfile(path)) if source.startswith("requirements/"))
    pinned = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", (ROOT / pins).read_text(), re.MULTILINE)}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    declared += tomllib.loads((ROOT / "client" / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = {canonicalize_name(Requirement(line).name) for line in declared} - {"onnx-fleet-client"}
    assert names <= pinned


def test_flower_loads_the_workers_app_with_what_its_image_has() -> None:
    """The image has no numpy and no ONNX Runtime; without the app, Flower would not know our queues."""
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "flower.txt").read_text(), re.MULTILINE))
    assert not {"numpy", "onnxruntime", "simpleitk"} & pinned
    script = (
        "import sys\n"
        "for name in ('numpy', 'scipy', 'onnxruntime', 'SimpleITK', 'PIL', 'isal'): sys.modules[name] = None\n"
        "from worker.app import app\n"
        "print(*sorted(queue.name for queue in app.conf.task_queues))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert "cpu.bulk.normal" in loaded.stdout.split()
