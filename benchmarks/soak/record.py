"""What the soak asks the record directly."""

from typing import Any

import psycopg
from psycopg.rows import dict_row


def rows(dsn: str) -> list[dict[str, Any]]:
    """Every job, by age, as the record has it."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM job ORDER BY id").fetchall()


def open_jobs(dsn: str) -> dict[str, int]:
    """How many wait and how many run."""
    with psycopg.connect(dsn, connect_timeout=3) as connection:
        found = connection.execute("SELECT state, count(*) FROM job WHERE state IN ('queued', 'running') GROUP BY 1")
        return {str(state): int(count) for state, count in found}


def busy_workers(dsn: str) -> set[str]:
    """Names of those that run a job now."""
    with psycopg.connect(dsn, connect_timeout=3) as connection:
        owners = connection.execute("SELECT lease_owner FROM job WHERE state = 'running'").fetchall()
    return {str(owner).split("#", 1)[0] for (owner,) in owners}
