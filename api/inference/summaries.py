"""What became of a tenant's jobs lately, as dashboards ask for it: read from the record, and kept for a moment."""

import copy
import math
import threading
import time
from dataclasses import dataclass, field

from fleet.errors import DependencyError
from fleet.inference_summary import InferenceSummary, InferenceSummaryReader

#: Seconds.
KEEP_S = 2.0


@dataclass
class _Kept:
    reading: threading.Lock = field(default_factory=threading.Lock)
    summary: InferenceSummary | DependencyError | None = None
    #: On the monotonic clock; while it is being read, for ever.
    until: float = math.inf


class Summaries:
    """Thread-safe: who asks for what is being read waits for that, and does not read it once more."""

    def __init__(self, reader: InferenceSummaryReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, float], _Kept] = {}

    def of(self, tenant: str, window_s: float) -> InferenceSummary:
        """As it was `KEEP_S` ago, or later. Raises DependencyError."""
        kept = self._one(tenant, window_s)
        with kept.reading:
            if kept.summary is None:
                try:
                    kept.summary = self._reader.read(tenant, window_s)
                except DependencyError as error:
                    # Who waited for it does not try the same once more; who comes later does.
                    kept.summary = error
                finally:
                    read = isinstance(kept.summary, InferenceSummary)
                    kept.until = time.monotonic() + (KEEP_S if read else 0.0)
            if isinstance(kept.summary, DependencyError):
                raise copy.copy(kept.summary)
            return kept.summary

    def _one(self, tenant: str, window_s: float) -> _Kept:
        """What is out of date is forgotten here, all of it: there may be as many windows as requests."""
        with self._lock:
            now = time.monotonic()
            self._kept = {key: kept for key, kept in self._kept.items() if now < kept.until}
            return self._kept.setdefault((tenant, window_s), _Kept())
