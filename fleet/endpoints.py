"""Jobs of one endpoint, a name under which a dialect submits them: counted, purged, and told piece by piece.

They are found by a label, so they are jobs like all others; the label's name is the dialect's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from fleet.contracts import Job
from fleet.database import Database
from fleet.ids import LEAST
from fleet.job_pages import words_of
from fleet.sql import statements

_SQL = statements("endpoints")
#: Jobs that are counted, the newest first.
COUNTED_AT_MOST = 10_000
_PURGED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Counts:
    #: State -> jobs.
    states: Mapping[str, int]
    retried: int


class Endpoints:
    """Stateless besides the database; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, tenant: str, label: Mapping[str, str]) -> Counts:
        (word,) = words_of(None, None, None, label)
        rows = self._database.run(_SQL["endpoint_counts"], {"tenant": tenant, "word": word, "at_most": COUNTED_AT_MOST})
        return Counts({row["state"]: row["jobs"] for row in rows}, sum(row["retried"] for row in rows))

    def purge(self, tenant: str, label: Mapping[str, str]) -> Iterator[UUID]:
        """Cancels what waits, as the ids are taken; running jobs go on."""
        after = LEAST
        while True:
            rows = self._database.run(
                _SQL["purge_endpoint"],
                {"tenant": tenant, "labels": Jsonb(dict(label)), "after": after, "limit": _PURGED_AT_ONCE},
            )
            yield from (row["id"] for row in rows if row["purged"])
            if len(rows) < _PURGED_AT_ONCE:
                return
            after = rows[-1]["id"]

    def told(self, job: Job) -> int:
        """How many pieces of its answer were told, since its last retry by hand."""
        row = self._database.one(_SQL["told"], {"id": job.id, "retries": job.retries})
        return int(row["told"]) if row is not None else 0

    def tell(self, job: Job, told: int, until: int, reader: str) -> bool:
        """Whether the pieces from `told` up to `until` are the reader's; False when another one was told them.

        `reader` names one call and is never used again.
        """
        values = {"id": job.id, "retries": job.retries, "told": told, "until": until, "reader": reader}
        return self._database.one(_SQL["tell"], values) is not None
