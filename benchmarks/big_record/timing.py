"""A Database that notes how long its statements took, and tells the plans by which PostgreSQL really ran them."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.errors import Diagnostic

from fleet.database import Database, Row

_SCAN = re.compile(
    r"((?:Parallel )?Seq Scan on \w+|Index (?:Only )?Scan(?: Backward)? using \w+|Bitmap Index Scan on \w+)"
)
_SETTINGS = {
    "client_min_messages": "log",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
}


@dataclass(frozen=True)
class Plans:
    """Of one call: the plan of each statement as text, and what they come to."""

    texts: list[str]

    @property
    def scans(self) -> list[str]:
        return sorted({scan.replace(" Backward", "") for text in self.texts for scan in _SCAN.findall(text)})

    @property
    def rows_removed(self) -> int:
        """Rows that were read and fitted no filter."""
        return sum(int(count) for text in self.texts for count in re.findall(r"Removed by \w+(?: \w+)*: (\d+)", text))

    @property
    def pages(self) -> int:
        """Pages of 8 KiB that were looked at; those of a node are counted in the node above it."""
        first = (re.search(r"Buffers: shared (.*)", text) for text in self.texts)
        return sum(int(count) for found in first if found for count in re.findall(r"(?:hit|read)=(\d+)", found[1]))


class TimedDatabase(Database):
    """One connection, without waiting for the disk: what is compared is the work and not the flush."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, max_connections=1)
        self.spent_s = 0.0
        self._plans: list[str] = []

    def prepare(self) -> None:
        """After `open`."""
        self.run("SET synchronous_commit = off")
        with self._pool.connection() as connection:
            connection.add_notice_handler(self._note)

    def run(self, statement: str, parameters: Mapping[str, Any] | None = None, *, binary: bool = False) -> list[Row]:
        began = time.perf_counter()
        try:
            return super().run(statement, parameters, binary=binary)
        finally:
            self.spent_s += time.perf_counter() - began

    def plans_of(self, call: Callable[[], object]) -> Plans:
        for name, value in _SETTINGS.items():
            self.run(f"SET {name} = {value}")
        self.run("SET auto_explain.log_min_duration = 0")
        self._plans.clear()
        call()
        found = Plans([text for text in self._plans if "Query Text: SET " not in text])
        self.run("SET auto_explain.log_min_duration = -1")
        return found

    def _note(self, notice: Diagnostic) -> None:
        self._plans.append(notice.message_primary or "")
