"""A download that is not finished: what has come, on disk, and what it is the beginning of. See `fleet/download.py`."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import IntegrityError
from fleet.objects import file_digest


@dataclass(frozen=True)
class Known:
    """What is known of a file before it is there."""

    sha256: str | None = None
    size: int | None = None


class Partial:
    """A download under way: the bytes so far, and in a note beside them what they are the beginning of."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.json")
        # Never the URL itself: signatures in it would outlive the download on disk.
        self._source = hashlib.sha256(url.encode()).hexdigest()
        self._etag = ""
        noted: dict[str, str] = {}
        with suppress(OSError, ValueError):
            noted = json.loads(self._note.read_text("utf-8"))
        if noted.get("source") == self._source:
            self._etag = noted.get("etag", "")
        else:
            self.restart()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def restart(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._etag = ""

    def conditions(self, known: Known) -> dict[str, str]:
        """Headers that ask for the rest, if it can be told that it is the rest of the same file."""
        if self.size and not self._etag and known.sha256 is None:
            self.restart()
        if not self.size:
            return {}
        return {"Range": f"bytes={self.size}-"} | ({"If-Range": self._etag} if self._etag else {})

    def note(self, headers: Mapping[str, str]) -> None:
        etag = headers.get("etag", "")
        self._etag = etag if etag.startswith('"') else headers.get("last-modified", "")
        self._note.write_text(json.dumps({"source": self._source, "etag": self._etag}), "utf-8")

    def finished(self, path: Path, known: Known, server: str) -> Known:
        digest, size = file_digest(self.path), self.size
        if known.sha256 not in (None, digest) or known.size not in (None, size):
            self.restart()
            raise IntegrityError(
                f"the file from {server} has {size} bytes with SHA-256 {digest}, announced were "
                f"{known.size if known.size is not None else 'any number of'} bytes with SHA-256 "
                f"{known.sha256 or 'unknown'}",
                sha256=digest,
                announced_sha256=known.sha256,
            )
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(path)
        self._note.unlink(missing_ok=True)
        return Known(digest, size)
