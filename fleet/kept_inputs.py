"""Inputs that lie in the record beside their job's row: too large for the row, too small to be worth an object.

    api      stores them in the statement that stores the job, so that they are there if and only if it is
    worker   reads them when it runs the job, and removes them with the commit that ends it well

Those of a job that ended otherwise stay, since it may be run again, and go with its row.
"""

import hashlib
from uuid import UUID

from fleet.contracts import KeptInput
from fleet.database import Database
from fleet.errors import IntegrityError, NotFound
from fleet.sql import statements

#: Of one input: an object costs the machine two to three times as much, and less than that beyond.
MAX_KEPT_BYTES = 1024 * 1024
#: Of one job: whoever claims it holds them in memory.
MAX_KEPT_TOTAL_BYTES = 4 * 1024 * 1024

#: Rows and pieces of rows. Fewer are not worth the work; more are for PostgreSQL's own vacuum, which takes its time.
_LEAST_DEAD, _MOST_DEAD = 500, 200_000

_SQL = statements("kept_inputs")


def described(content: bytes, name: str | None, media_type: str) -> KeptInput:
    return KeptInput(size=len(content), sha256=hashlib.sha256(content).hexdigest(), name=name, media_type=media_type)


class KeptInputs:
    """Stateless; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def contents(self, job_id: UUID, kept: dict[int, KeptInput]) -> dict[int, bytes]:
        """By the number of the input. Raises NotFound `input-gone`, IntegrityError, DependencyError."""
        rows = self._database.run(_SQL["kept_inputs"], {"id": job_id}, binary=True) if kept else []
        contents: dict[int, bytes] = {row["number"]: row["content"] for row in rows}
        for number, item in kept.items():
            content = contents.get(number)
            if content is None:
                raise NotFound(f"input {number} is not in the record any more", code="input-gone")
            if hashlib.sha256(content).hexdigest() != item.sha256:
                raise IntegrityError(f"input {number} is not what was submitted: its SHA-256 differs")
        return contents

    def free_room(self) -> bool:
        """Makes the room of removed ones free for the next; whether any became free.

        There may be too few or too many of them, and a transaction that is as old as they are keeps them.

        Left to PostgreSQL's own vacuum, the inputs of a minute lie in fresh pages, which have to be made and written.

        Raises DependencyError.
        """
        dead = self._dead()
        if not _LEAST_DEAD <= dead <= _MOST_DEAD:
            return False
        self._database.run(_SQL["free_inputs"])
        return self._dead() < dead

    def _dead(self) -> int:
        row = self._database.one(_SQL["dead_inputs"])
        return int(row["dead"]) if row else 0
