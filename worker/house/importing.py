"""One import, from where the model is to what every worker can serve: fetch, lay out, scan, store, check.

Each step may be done again by another worker: until the last statement nobody sees anything of it.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fleet.card import Card
from fleet.contracts import Pool
from fleet.download import Downloads, Watch
from fleet.errors import NoCapableWorker
from fleet.logs import get_logger
from fleet.model_records import StoredFile
from fleet.objects import ObjectStore
from fleet.settings import Settings
from worker.contract import Task
from worker.device import Device
from worker.engine.loaded import loading_bytes
from worker.engine.model_folder import read_versions
from worker.engine.model_version import ModelVersion
from worker.engine.setup import Setups
from worker.engine.weighing import CHILD_BYTES
from worker.house.child import run_in_child
from worker.house.disk import Disk
from worker.house.held import HeldImport
from worker.house.sources import Desk, Fetched, fetch
from worker.house.stored import store_folder
from worker.memory.share import Memory

_SCAN_S, _TRY_S = 600.0, 1800.0
#: For parsing a graph, whose file may have 2 GiB.
_SCAN_BYTES = 8 * 1024**3
#: For the lists of what is in an archive; files are written piece by piece.
_UNPACK_BYTES = 1024**3
log = get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What is written with the end of an import."""

    files: list[StoredFile]
    card: Card
    report: dict[str, Any]


class WrongPool(Exception):
    """The model runs on the other kind of device only: workers there are to check it."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.value)
        self.pool = pool


@dataclass(frozen=True)
class Workshop:
    """What imports need of the process; one of them is made at a time."""

    settings: Settings
    device: Device
    objects: ObjectStore
    downloads: Downloads
    disk: Disk
    memory: Memory
    tasks: dict[str, Task]

    def bring_in(self, held: HeldImport) -> Outcome:
        """Raises FleetError with what is wrong, RunStopped when it is to end here, and WrongPool."""
        row = held.row
        work = self.disk.root / "imports" / row.key
        with self.disk.locked(f"{row.key}.import", held.check):
            fetched = self._fetch(held, work)
            held.enter("scanning")
            folder = work / "model" / row.name
            report = self._arranged(held, work, folder, fetched)
            version = self._read(folder)
            held.enter("storing")
            total = version.size_bytes
            files = store_folder(folder, row, self.objects, lambda done: self._told(held, done, total))
            held.enter("checking")
            report |= self._tried(held, version)
            # Into the place where a job would look for it: this worker need not fetch what it has just stored.
            outcome = Outcome(files, version.card(), report | {"source": fetched.note})
            shutil.rmtree(work, ignore_errors=True)
        return outcome

    def discard(self, key: str) -> None:
        """What a failed import has left on this disk."""
        shutil.rmtree(self.disk.root / "imports" / key, ignore_errors=True)

    def _fetch(self, held: HeldImport, work: Path) -> Fetched:
        held.enter("fetching")
        came, incoming = work / "came", work / "incoming"
        shutil.rmtree(work / "model", ignore_errors=True)
        # What a try before has left in the middle is gone on with; the rest may not belong to this one.
        _remove(came, lambda file: not _is_partial(file))
        for folder in (came, incoming):
            folder.mkdir(parents=True, exist_ok=True)
        watch = Watch(held.tell, held.check)
        desk = Desk(self.downloads, self.objects, self.settings, came, incoming, watch)
        apart = replace(
            desk,
            references=lambda graph: self._references(held, graph),
            unpack=lambda path, folder, most: self._unpacked(held, path, folder, most),
            unpack_members=lambda path, members, folder, most: self._unpacked(held, path, folder, most, members),
        )
        fetched = fetch(held.row.source, apart)
        _remove(came, _is_partial)
        return fetched

    def _references(self, held: HeldImport, graph: Path) -> list[str]:
        request = {"graph": str(graph)}
        answer = run_in_child("references", request, limit_s=_SCAN_S, most_bytes=_SCAN_BYTES, check=held.check)
        return list(answer["files"])

    def _unpacked(
        self, held: HeldImport, path: Path, folder: Path, max_bytes: int, members: dict[str, str] | None = None
    ) -> bool:
        request = {"path": str(path), "folder": str(folder), "members": members, "max_bytes": max_bytes}
        answer = run_in_child("unpack", request, limit_s=_TRY_S, most_bytes=_UNPACK_BYTES, check=held.check)
        return bool(answer["archive"])

    def _arranged(self, held: HeldImport, work: Path, folder: Path, fetched: Fetched) -> dict[str, Any]:
        row = held.row
        folder.mkdir(parents=True)
        request = {
            "came": str(work / "came"),
            "folder": str(folder),
            "max_bytes": self.settings.model_max_bytes,
            "wish": {
                "version": row.version,
                "note": fetched.note,
                "graphs": list(fetched.graphs),
                "manifest": row.manifest,
                "labels": dict(fetched.labels) or None,
            },
        }
        return run_in_child("arrange", request, limit_s=_SCAN_S, most_bytes=_SCAN_BYTES, check=held.check)

    def _read(self, folder: Path) -> ModelVersion:
        """Safe here, since the child could read it."""
        return read_versions(folder, self.tasks, every=True)[0]

    def _tried(self, held: HeldImport, version: ModelVersion) -> dict[str, Any]:
        try:
            # Which provider is fastest is measured where the model is served.
            options = version.manifest.onnx.model_copy(update={"providers": []})
            plain = replace(version, manifest=version.manifest.model_copy(update={"onnx": options}))
            setup = Setups(self.device)(plain)
        except NoCapableWorker as error:
            if error.code == "wrong-device":
                raise WrongPool(Pool.CPU if self.device.pool is Pool.GPU else Pool.GPU) from error
            raise
        request = {"folder": str(version.folder.parent), "setup": asdict(setup)}
        share = self.memory.share(lambda seconds: None)
        on_cpu = self.device.pool is Pool.CPU
        try:
            share.admit(
                f"loading {version.key}",
                CHILD_BYTES + loading_bytes(version),
                lean_bytes=None,
                scratch_bytes=0,
                check=held.check,
                queueing=lambda: _Waiting(held),
            )
            # The device's own memory is mapped, too, and must not count.
            most = self.memory.budget.most_bytes if on_cpu else 0
            return run_in_child("try", request, limit_s=_TRY_S, most_bytes=most, check=held.check)
        finally:
            share.release()

    @staticmethod
    def _told(held: HeldImport, done: int, total: int) -> None:
        held.check()
        held.tell(done, total)


def _is_partial(file: Path) -> bool:
    return file.name.endswith((".part", ".part.json"))


def _remove(folder: Path, unwanted: Callable[[Path], bool]) -> None:
    for file in [entry for entry in folder.rglob("*") if entry.is_symlink() or entry.is_file()]:
        if unwanted(file):
            file.unlink()


class _Waiting:
    """Surrounds the time in which others have the memory."""

    def __init__(self, held: HeldImport) -> None:
        self._held = held

    def __enter__(self) -> None:
        self._held.enter("waiting for memory")

    def __exit__(self, *_: object) -> None:
        self._held.enter("checking")
