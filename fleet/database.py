"""One pool of PostgreSQL connections per process, and the one place where psycopg's errors become ours.

Every statement runs in autocommit and is written so that it may run twice, so a connection that broke
(a restarted server) costs one silent repeat, not an error.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

import orjson
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from fleet.errors import DependencyError

Row = dict[str, Any]
_WAIT_WHILE_DOWN_S = 0.3
_WAIT_FOR_ANOTHER_S = 0.7
_STATEMENT_S, _LOCK_S = 20, 5
#: A migration added a column to what `RETURNING *` returns, or a pooler gave us another server session.
_PLAN_IS_STALE = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
)


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
            # Short, so that whoever waits after a long outage is served as soon as the server is back.
            reconnect_timeout=5,
            name="record",
            configure=_bound,
        )
        self._wait_s = wait_s
        #: False after nobody got a connection in time, until somebody does: then callers wait only a moment.
        self._answers = True
        self._replacing = threading.Lock()
        self._replaced_at = float("-inf")

    def open(self) -> "Database":
        self._pool.open()
        return self

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> "Database":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, statement: str, parameters: Mapping[str, Any] | None = None, *, binary: bool = False) -> list[Row]:
        """Rows of the statement, empty where it returns none. binary: bytes come as such, and not in hexadecimal.

        Raises DependencyError `database-unavailable` when PostgreSQL cannot be reached or ends the connection twice,
        and `database-not-migrated` when the schema is older than this version of Fleet.
        """
        began = time.monotonic()
        try:
            return self._once(statement, parameters, self._wait_s, binary)
        except _Broken:
            self._replace_connections(began)
        try:
            # A server that is gone for good is not worth waiting for as if it were only busy.
            return self._once(statement, parameters, min(self._wait_s, _WAIT_FOR_ANOTHER_S), binary)
        except _Broken as broken:
            raise _unavailable() from broken.__cause__

    def one(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        rows = self.run(statement, parameters)
        return rows[0] if rows else None

    def _replace_connections(self, began: float) -> None:
        """Where one broke the others did, too; to ask each of them would take long where packets vanish."""
        with self._replacing:
            if self._replaced_at < began:
                self._replaced_at = time.monotonic()
                self._pool.drain()

    def _once(self, statement: str, parameters: Mapping[str, Any] | None, wait_s: float, binary: bool) -> list[Row]:
        try:
            with self._pool.connection(wait_s if self._answers else _WAIT_WHILE_DOWN_S) as connection:
                self._answers = True
                try:
                    cursor = connection.execute(statement.encode(), parameters or {}, binary=binary)
                except _PLAN_IS_STALE:
                    # Prepared plans halve the cost of a job, but not on this connection any more.
                    connection.prepare_threshold = None
                    cursor = connection.execute(statement.encode(), parameters or {}, binary=binary)
                # `description` would tell the same, after describing each column anew.
                return cursor.fetchall() if cursor.rownumber is not None else []
        # No connection came within `wait_s`: another wait would only double it.
        except PoolTimeout as error:
            self._answers = False
            raise _unavailable() from error
        except PoolClosed as error:
            raise DependencyError("this process is shutting down", code="database-closed") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise _Broken from error
        except (psycopg.errors.InternalError, psycopg.errors.NotSupportedError) as error:
            # A standby that is read-only, for instance: not the statement's fault either.
            raise _unavailable() from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise DependencyError(
                "the record has not the schema of this version of Fleet: run `fleet migrate`",
                code="database-not-migrated",
            ) from error


def _bound(connection: psycopg.Connection[Row]) -> None:
    """No statement of ours takes long: one that does is stuck behind a lock or a sick server.

    Each is planned once, for all values: they are written so that one plan is right for all, and planning a submit
    takes as long as running it. PostgreSQL by itself would weigh that anew for each, and plan a list for its values.
    """
    settings = {
        "statement_timeout": f"{_STATEMENT_S}s",
        "lock_timeout": f"{_LOCK_S}s",
        "plan_cache_mode": "force_generic_plan",
    }
    chosen = ", ".join(["set_config(%s, %s, false)"] * len(settings))
    connection.execute(f"SELECT {chosen}".encode(), [part for setting in settings.items() for part in setting])
    connection.prepare_threshold = 0
    # A row of a job has ten such fields.
    set_json_loads(orjson.loads, connection)


class _Broken(Exception):
    """The connection failed, not the statement."""


def _unavailable() -> DependencyError:
    return DependencyError(
        "PostgreSQL cannot be reached: the record is unavailable, try again shortly", code="database-unavailable"
    )
