"""What lies in a model's folder for all of its versions: its publisher's files may be there."""

import threading
from pathlib import Path

from fleet.objects import file_digest

#: No configuration or vocabulary is larger.
_MOST_BYTES = 64 * 1024**2


class SharedFiles:
    """Of one model's folder. Thread-safe; a file is read again when its size or its time of change is another one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        #: By path: (what tells one state from another, as far as the disk knows), SHA-256.
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file by its path within the folder, as they are now. Raises OSError."""
        with self._lock:
            self._known = {path: self._read(path) for path in self._paths()}
            return {path.relative_to(self._folder).as_posix(): digest for path, (_, digest) in self._known.items()}

    def _paths(self) -> list[Path]:
        return [
            path
            for path in sorted(self._folder.rglob("*"))
            if path.is_file() and not self._is_of_version(path) and path.stat().st_size <= _MOST_BYTES
        ]

    def _is_of_version(self, path: Path) -> bool:
        """Versions are folders whose names are numbers."""
        parts = path.relative_to(self._folder).parts
        return len(parts) > 1 and parts[0].isdigit()

    def _read(self, path: Path) -> tuple[tuple[int, ...], str]:
        about = path.stat()
        # The first may be set by whoever copies a file, the second by nobody.
        state = about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_size
        known = self._known.get(path)
        return known if known is not None and known[0] == state else (state, file_digest(path))
