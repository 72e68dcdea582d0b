"""What can go wrong with the three servers of a stack, done to them on purpose. Call from the main thread, which
started them.
"""

import os
import shutil
import signal
import time

import psycopg
import redis

from cli.stack import Stack
from cli.stack.child import Child
from fleet.settings import Settings


class Breakable:
    """The servers of a running stack that nobody supervises: what is stopped here stays down until it is started."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._settings: Settings = stack.settings()
        self.redis_server, self.postgres_server, self.object_server = (
            stack.child(name) for name in ("valkey", "postgres", "seaweedfs")
        )

    def kill_redis(self) -> None:
        """It dies without a word, and what it had on disk is gone."""
        _signalled(self.redis_server, signal.SIGKILL)
        shutil.rmtree(self._stack.layout.valkey / "appendonlydir", ignore_errors=True)

    def flush_redis(self) -> None:
        with self._redis() as client:
            client.flushall()

    def kill_redis_connections(self) -> int:
        """How many it had."""
        with self._redis() as client:
            killed = [client.execute_command("CLIENT", "KILL", "TYPE", kind) for kind in ("normal", "pubsub")]
        return sum(int(number) for number in killed)

    def stop_postgres(self, *, crash: bool = False) -> None:
        """Ends all sessions and stops; with `crash` at once, so that the next start recovers from its log."""
        _signalled(self.postgres_server, signal.SIGQUIT if crash else signal.SIGINT)

    def end_sessions(self) -> int:
        """Ends every session of PostgreSQL but our own; how many there were."""
        with psycopg.connect(self._settings.database_dsn, autocommit=True) as session:
            ended = session.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where backend_type = 'client backend' and pid <> pg_backend_pid()"
            ).fetchall()
        return len(ended)

    def stop_objects(self) -> None:
        _signalled(self.object_server, signal.SIGKILL)

    def start(self, server: Child, within_s: float = 60.0) -> None:
        """Starts it again where it was, and waits until it does its work; one that runs is left alone."""
        if not server.ended():
            return
        server.start()
        give_up = time.monotonic() + within_s
        while not server.probe():
            if server.ended() or server.start_limit_passed():
                server.stop()
                server.start()
            assert time.monotonic() < give_up, f"{server.name} does not come back: {server.fault}"
            time.sleep(0.05)

    def start_all(self) -> None:
        for server in (self.redis_server, self.postgres_server, self.object_server):
            self.start(server)

    def _redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self._settings.redis_url.get_secret_value(), socket_timeout=5)


def _signalled(server: Child, number: signal.Signals) -> None:
    """Returns when it has ended."""
    if server.ended() or server.pid is None:
        return
    os.kill(server.pid, number)
    give_up = time.monotonic() + 20.0
    while not server.ended():
        assert time.monotonic() < give_up, f"{server.name} does not end"
        time.sleep(0.01)
