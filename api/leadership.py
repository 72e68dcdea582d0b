"""One leader among all api processes: whoever holds an advisory lock of PostgreSQL.

The lock lives in a session of its own, so the connection must not go through a pooler that shares sessions.
"""

import psycopg

from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.sql import statements

#: The number is arbitrary and must never change.
_LOCK = 0x666C6C6561640001
_SQL = statements("leadership")
log = get_logger(__name__)


class Leadership:
    """Used by one thread."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._session: psycopg.Connection[tuple[bool]] | None = None
        self._leading = False

    def held(self) -> bool:
        """Whether this process leads now; tries to when nobody does. Raises DependencyError `database-unavailable`."""
        try:
            if self._leading:
                self._ask("still_here")
            elif self._ask("try_to_lead"):
                self._leading = True
                log.info("leading: this process's reconciler works")
        except psycopg.Error as error:
            self.close()
            raise DependencyError("the leader's session with PostgreSQL failed", code="database-unavailable") from error
        return self._leading

    def close(self) -> None:
        """Gives the lead back."""
        if self._leading:
            log.info("no longer leading")
        self._leading = False
        if self._session is not None:
            self._session.close()
            self._session = None

    def _ask(self, block: str) -> bool:
        if self._session is None:
            self._session = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=5,
                # A leader that the network cut off must notice before others work in its place for long.
                tcp_user_timeout=10_000,
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
            )
        row = self._session.execute(_SQL[block].encode(), {"lock": _LOCK}).fetchone()
        return row is not None and row[0]
