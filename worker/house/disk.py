"""The worker's disk cache of models: bounded, shared by the processes of a machine, and filled once for all who wait.

    house/<name>/<version>-<digest>/<name>/...   whole and checked
    partial/, imports/                           on their way; a later try goes on with them
    locks/                                       held while an entry is filled (exclusively) or in use (shared)

A process that dies lets go of its locks, so nothing has to be cleaned up before others go on.
"""

import fcntl
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fleet.errors import NoCapableWorker
from fleet.logs import get_logger

_TICK_S = 0.1
#: What was handed out and is not loaded stays for so long: it may be just about to be.
_GRACE_S = 600.0
_LEFTOVER_S = 86_400.0
log = get_logger(__name__)

Check = Callable[[], object]


class Disk:
    """Thread-safe."""

    def __init__(self, root: Path, max_bytes: int, *, hit: Callable[[bool], object] = lambda found: None) -> None:
        """`hit` is told of each request whether the entry was there."""
        self.root = root
        self._max_bytes = max_bytes
        self._hit = hit
        self._lock = threading.Lock()
        self._held: dict[str, tuple[IO[str], float]] = {}

    def entry(self, key: str, size: int, fill: Callable[[Path], object], check: Check) -> Path:
        """The folder of that entry; when it is not there, `fill` makes it in the folder that it is given.

        Only one of all who ask fills it. `check` is called while waiting, and ends it by raising. Raises
        NoCapableWorker `model-cache-full`, and what `fill` raises: what it had made is kept for the next try.
        """
        path = self.folder(key)
        self._hold(key, check)
        if path.is_dir():
            self._hit(True)
            path.touch()
            return path
        with self.locked(f"{key}.fill", check):
            if not path.is_dir():
                self._hit(False)
                self._make_room(size)
                partial = self.root / "partial" / key
                partial.mkdir(parents=True, exist_ok=True)
                fill(partial)
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.rename(path)
        return path

    def folder(self, key: str) -> Path:
        """Where the entry lies, or would."""
        return self.root / "house" / key

    def keeps(self, key: str) -> bool:
        """Whether this process uses the entry already; then it goes on to."""
        with self._lock:
            if key in self._held:
                self._held[key] = (self._held[key][0], time.monotonic())
                return True
        return False

    def let_go(self, loaded: Collection[str]) -> None:
        """Entries that this process has not loaded and will not load soon may be evicted. Keys without the digest."""
        with self._lock:
            for key, (lock, since) in list(self._held.items()):
                if key.rpartition("-")[0] not in loaded and time.monotonic() - since > _GRACE_S:
                    lock.close()
                    del self._held[key]

    def close(self) -> None:
        """Whatever was handed out may be evicted from now on."""
        with self._lock:
            for lock, _ in self._held.values():
                lock.close()
            self._held.clear()

    @contextmanager
    def locked(self, name: str, check: Check) -> Iterator[None]:
        """Exclusively, among the threads and processes of the machine."""
        with self._open(name) as file:
            _wait_for(file, fcntl.LOCK_EX, check)
            yield

    def sweep(self) -> None:
        """What crashes have left: half of an entry that nobody has gone on with for a day."""
        shutil.rmtree(self.root / "trash", ignore_errors=True)
        for place in ("partial", "imports"):
            for folder in [*(self.root / place).glob("*/*")]:
                old = time.time() - _newest(folder) > _LEFTOVER_S
                key = folder.relative_to(self.root / place).as_posix()
                lock = f"{key}.fill" if place == "partial" else f"{key}.import"
                if old and (file := self._free(lock)):
                    with file:
                        shutil.rmtree(folder, ignore_errors=True)
                    log.info("leftover of a model removed", place=place, model=key)

    @property
    def size_bytes(self) -> int:
        return sum(_size(entry) for entry in self._entries())

    def _hold(self, key: str, check: Check) -> None:
        with self._lock:
            if key in self._held:
                self._held[key] = (self._held[key][0], time.monotonic())
                return
        file = self._open(f"{key}.use")
        try:
            _wait_for(file, fcntl.LOCK_SH, check)
        except BaseException:
            file.close()
            raise
        with self._lock:
            if key in self._held:
                file.close()
            else:
                self._held[key] = (file, time.monotonic())

    def _make_room(self, wanted: int) -> None:
        """Evicts what was used longest ago and is in nobody's use."""
        entries = sorted(self._entries(), key=lambda entry: entry.stat().st_mtime)
        sizes = {entry: _size(entry) for entry in entries}
        held = sum(sizes.values())
        for entry in entries:
            if held + wanted <= self._max_bytes:
                return
            if self._evicted(entry):
                held -= sizes[entry]
        if held + wanted > self._max_bytes:
            raise NoCapableWorker(
                f"a model of {wanted:,} bytes does not fit into the {self._max_bytes:,} bytes of this worker's disk "
                f"cache, of which {held:,} are in use: raise MODEL_CACHE_GB",
                code="model-cache-full",
                wanted_bytes=wanted,
                limit_bytes=self._max_bytes,
                held_bytes=held,
            )

    def _evicted(self, entry: Path) -> bool:
        key = entry.relative_to(self.root / "house").as_posix()
        file = self._free(f"{key}.use")
        if file is None:
            return False
        with file:
            trash = self.root / "trash" / uuid.uuid4().hex
            trash.parent.mkdir(exist_ok=True)
            entry.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
        log.info("model evicted from the disk cache", model=key)
        return True

    def _entries(self) -> list[Path]:
        return [entry for entry in (self.root / "house").glob("*/*") if entry.is_dir()]

    def _open(self, name: str) -> IO[str]:
        path = self.root / "locks" / name.replace("/", "+")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")

    def _free(self, name: str) -> IO[str] | None:
        """The lock, taken; None when somebody has it."""
        file = self._open(name)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file


def _wait_for(file: IO[str], how: int, check: Check) -> None:
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            check()
            time.sleep(_TICK_S)
        else:
            return


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _newest(folder: Path) -> float:
    found = [folder.stat().st_mtime]
    with suppress(OSError):
        found += [file.stat().st_mtime for file in folder.rglob("*")]
    return max(found)
