"""Brings the record to the newest schema: `fleet migrate`, and `fleet up` before it starts anything else.

Migrations only go forward. One advisory lock makes sure that several starters do not migrate at once.
"""

import re
from dataclasses import dataclass
from importlib.resources import files

import psycopg

from fleet.errors import DependencyError, FleetError

#: One lock for all of Fleet's migrations in a database; the number is arbitrary and must never change.
_LOCK = 0x666C656574
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LEDGER = """CREATE TABLE IF NOT EXISTS migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"""


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    sql: str


class SchemaTooNew(FleetError):
    """The database was migrated by a newer Fleet than this one."""

    code = "schema-too-new"


def migrations() -> list[Migration]:
    """All migrations that this version of Fleet knows, in order."""
    found = [
        Migration(int(match[1]), entry.name, entry.read_text("utf-8"))
        for entry in files("fleet.migrations").iterdir()
        if (match := _NAME.match(entry.name))
    ]
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations must be numbered 1, 2, 3, ... without a gap, found {numbers}")
    return found


def pending(dsn: str) -> list[int]:
    """Numbers of the migrations that the database still lacks. Raises DependencyError, SchemaTooNew."""
    with _connect(dsn) as connection:
        return [migration.number for migration in _missing(connection)]


def migrate(dsn: str) -> list[int]:
    """Applies what is missing, each migration in its own transaction; returns the numbers applied."""
    with _connect(dsn) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        connection.execute(_LEDGER)
        applied = []
        for migration in _missing(connection):
            with connection.transaction():
                connection.execute(migration.sql.encode())
                connection.execute(
                    "INSERT INTO migration (number, name) VALUES (%s, %s)", (migration.number, migration.name)
                )
            applied.append(migration.number)
        return applied


def _connect(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        raise DependencyError(f"PostgreSQL cannot be reached: {error}", code="database-unavailable") from error


def _missing(connection: psycopg.Connection[tuple[object, ...]]) -> list[Migration]:
    known = migrations()
    exists = connection.execute("SELECT to_regclass('migration')").fetchone()
    if exists is None or exists[0] is None:
        return known
    done = {row[0] for row in connection.execute("SELECT number FROM migration")}
    unknown = done - {migration.number for migration in known}
    if unknown:
        raise SchemaTooNew(
            f"the database has migrations {sorted(map(str, unknown))} that this version of Fleet does not know: "
            "run the newer version that made them",
        )
    return [migration for migration in known if migration.number not in done]
