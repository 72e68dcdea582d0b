"""A witness inside the database: a trigger writes down every change of a job's state, whoever made it.

It is installed by the soak and the chaos tests, and knows nothing of Fleet but the columns `state`, `attempt` and
`lease_owner`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg.rows import class_row

_INSTALL = """
CREATE TABLE witness (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    job uuid NOT NULL,
    was text, attempt_was integer, owner_was text,
    became text, attempt integer, owner text,
    -- Of a row that had ended: the columns that changed all the same.
    touched text[]
);
CREATE FUNCTION bear_witness() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE changed text[];
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO witness (job, was, attempt_was) VALUES (OLD.id, OLD.state, OLD.attempt);
        RETURN NULL;
    END IF;
    IF OLD.state NOT IN ('queued', 'running') THEN
        SELECT array_agg(key) INTO changed FROM jsonb_each(to_jsonb(NEW)) AS new
         WHERE value IS DISTINCT FROM to_jsonb(OLD) -> key;
        changed := coalesce(changed, '{}');
    ELSIF OLD.state = NEW.state AND OLD.attempt = NEW.attempt THEN
        RETURN NULL;
    END IF;
    INSERT INTO witness (job, was, attempt_was, owner_was, became, attempt, owner, touched)
    VALUES (NEW.id, OLD.state, OLD.attempt, OLD.lease_owner, NEW.state, NEW.attempt, NEW.lease_owner, changed);
    RETURN NULL;
END $$;
CREATE TRIGGER bear_witness AFTER UPDATE OR DELETE ON job FOR EACH ROW EXECUTE FUNCTION bear_witness();
"""


#: Columns of a job that has ended which nothing may ever change.
FINAL = frozenset({"state", "attempt", "result", "artifacts", "error", "finished_at", "timings", "ran_on"})


@dataclass(frozen=True)
class Change:
    """One line of the witness. `became` None: the row was deleted. `touched`: see the table."""

    at: datetime
    job: UUID
    was: str
    attempt_was: int
    owner_was: str | None
    became: str | None
    attempt: int | None
    owner: str | None
    touched: list[str] | None

    @property
    def ended(self) -> bool:
        """The job ended with this change."""
        return self.was in ("queued", "running") and self.became not in ("queued", "running", None)

    @property
    def worker(self) -> str:
        """Who takes, or took, the job with this change; empty for nobody."""
        return (self.owner or self.owner_was or "").split("#", 1)[0]


def install(dsn: str) -> None:
    """In a migrated database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_INSTALL.encode())


def changes(dsn: str) -> list[Change]:
    """All of them, in the order in which they happened."""
    columns = "at, job, was, attempt_was, owner_was, became, attempt, owner, touched"
    with psycopg.connect(dsn, row_factory=class_row(Change)) as connection:
        return connection.execute(f"SELECT {columns} FROM witness ORDER BY seq".encode()).fetchall()


def endings(story: Sequence[Change]) -> Counter[UUID]:
    """How often each job ended: once, or a promise is broken."""
    return Counter(change.job for change in story if change.ended)


def changed_after_end(story: Sequence[Change]) -> list[str]:
    """What changed, in words, of jobs that had ended: of the columns that are for ever."""
    return [
        f"{change.job}: {', '.join(sorted(FINAL & set(change.touched)))} changed after it was {change.was}"
        for change in story
        if change.touched is not None and FINAL & set(change.touched)
    ]
