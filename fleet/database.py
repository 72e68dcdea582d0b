"""One pool of PostgreSQL connections per process, and the one place where psycopg's errors become ours.

Every statement runs in autocommit and is written so that it may run twice, so a connection that broke
(a restarted server) costs one silent repeat, not an error.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from fleet.errors import DependencyError

Row = dict[str, Any]


class Database:
    """`run` executes one statement and returns its rows. Thread-safe."""

    def __init__(self, dsn: str, *, max_connections: int = 10, wait_s: float = 3.0) -> None:
        self._pool: ConnectionPool[psycopg.Connection[Row]] = ConnectionPool(
            dsn,
            min_size=1,
            max_size=max_connections,
            timeout=wait_s,
            open=False,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "connect_timeout": 5,
                # A server that vanished without a word must not hold a request for the minutes of TCP's patience.
                "tcp_user_timeout": 10_000,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
            reconnect_timeout=30,
            name="record",
        )

    def open(self) -> "Database":
        self._pool.open()
        return self

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> "Database":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Rows of the statement, empty where it returns none.

        Raises DependencyError `database-unavailable` when PostgreSQL cannot be reached or ends the connection twice,
        and `database-not-migrated` when the schema is older than this version of Fleet.
        """
        try:
            return self._once(statement, parameters)
        except _Broken:
            self._pool.check()
        try:
            return self._once(statement, parameters)
        except _Broken as broken:
            raise _unavailable() from broken.__cause__

    def one(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        rows = self.run(statement, parameters)
        return rows[0] if rows else None

    def _once(self, statement: str, parameters: Mapping[str, Any] | None) -> list[Row]:
        try:
            with self._pool.connection() as connection:
                cursor = connection.execute(statement.encode(), parameters or {})
                return cursor.fetchall() if cursor.description is not None else []
        # No connection came within `wait_s`: another wait would only double it.
        except (PoolTimeout, PoolClosed) as error:
            raise _unavailable() from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise _Broken from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise DependencyError(
                "the record has not the schema of this version of Fleet: run `fleet migrate`",
                code="database-not-migrated",
            ) from error


class _Broken(Exception):
    """The connection failed, not the statement."""


def _unavailable() -> DependencyError:
    return DependencyError(
        "PostgreSQL cannot be reached: the record is unavailable, try again shortly", code="database-unavailable"
    )
