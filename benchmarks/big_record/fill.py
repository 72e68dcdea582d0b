"""Databases with a record of a given size. One that is there already, and of the same making, is used again."""

import hashlib
import re
from pathlib import Path

import psycopg
from psycopg import sql

from fleet.migrate import migrate, migrations

_TEXT = Path(__file__).with_name("fill.sql").read_text("utf-8")
#: name -> statement
_PARTS = dict(re.findall(r"^-- ([a-z]+) --\n(.*?)(?=^-- [a-z]+ --\n|\Z)", _TEXT, re.MULTILINE | re.DOTALL))
Connection = psycopg.Connection[tuple[object, ...]]


def filled(server_dsn: str, rows: int) -> str:
    """The DSN of a migrated and analysed database with so many jobs: of them 2 % wait and at most a hundred run."""
    made_by = hashlib.sha256("".join([_TEXT, *(migration.sql for migration in migrations())]).encode()).hexdigest()
    name = f"record_{rows}_{made_by[:8]}"
    dsn = f"{server_dsn.rpartition('/')[0]}/{name}"
    with psycopg.connect(server_dsn, autocommit=True) as server:
        if server.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).rowcount:
            return dsn
        unfinished = f"{name}_unfinished"
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(unfinished)))
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unfinished)))
        _fill(f"{server_dsn.rpartition('/')[0]}/{unfinished}", rows)
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        server.execute(rename.format(sql.Identifier(unfinished), sql.Identifier(name)))
        # Tells the plan of a statement on request, as it was really run: see `timing.py`.
        preload = sql.SQL("ALTER DATABASE {} SET session_preload_libraries = 'auto_explain'")
        server.execute(preload.format(sql.Identifier(name)))
    return dsn


def _fill(dsn: str, rows: int) -> None:
    migrate(dsn)
    numbers = {"rows": rows, "queued": rows // 50, "running": min(100, rows // 50), "due": min(1000, rows // 10)}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '1GB'")
        dropped = _drop_indexes(connection)
        for part in _PARTS.values():
            connection.execute(part.encode(), numbers)
        for statement in dropped:
            connection.execute(statement.encode())
        connection.execute("VACUUM (FREEZE, ANALYZE)")


def _drop_indexes(connection: Connection) -> list[str]:
    """An index that is made at the end is made in a tenth of the time. The statements that bring them back."""
    again = []
    plain = """SELECT indexname, indexdef FROM pg_indexes
                WHERE tablename IN ('job', 'job_source', 'idempotency', 'upload', 'webhook_delivery')
                  AND indexdef LIKE 'CREATE INDEX %'"""
    for name, definition in connection.execute(plain).fetchall():
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(str(name))))
        again.append(str(definition))
    connection.execute("ALTER TABLE job_word DROP CONSTRAINT job_word_pkey")
    return [*again, "ALTER TABLE job_word ADD PRIMARY KEY (tenant, word, job_id)"]
