"""Real servers for the tests: one Valkey, one PostgreSQL and one SeaweedFS per pytest process, shared by its tests.

Every test gets a database of its own (copied from a migrated one), an empty Redis and an empty bucket.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import redis
from minio import Minio
from minio.deleteobjects import DeleteObject
from psycopg import sql

from cli.stack import Stack
from cli.stack.external import External
from fleet.migrate import migrate
from fleet.settings import Settings

_TEMPLATE = "fleet_template"


class Servers:
    """The three servers, running. `settings` are theirs; `fresh` narrows them to one test."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.settings = stack.settings()
        self._numbers = count(1)
        self._objects = Minio(
            self.settings.minio_endpoint,
            access_key=self.settings.minio_access_key,
            secret_key=self.settings.minio_secret_key.get_secret_value(),
            secure=False,
            region=self.settings.minio_region,
        )
        self.create_database(_TEMPLATE)
        migrate(self.dsn(_TEMPLATE))

    def dsn(self, database: str) -> str:
        return self.settings.database_dsn.rpartition("/")[0] + f"/{database}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Makes an empty database, or a copy of `template` that nobody is connected to; returns its DSN."""
        self._execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Also when a test left connections to it open."""
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    @contextmanager
    def fresh(self, **changes: Any) -> Iterator[Settings]:
        """Settings of a new migrated database, an empty Redis and an empty bucket; `changes` are other settings."""
        name = f"test_{next(self._numbers)}"
        dsn = self.create_database(name, _TEMPLATE)
        self.flush_redis()
        self.empty_bucket()
        own = {field.lower(): value for field, value in self.stack.environment.items()}
        own |= {"database_url": dsn, "environment": "test"}
        try:
            yield Settings(_env_file=None, **{**own, **changes})
        finally:
            self.drop_database(name)

    def flush_redis(self) -> None:
        with redis.Redis.from_url(self.settings.redis_url.get_secret_value()) as client:
            client.flushall()

    def empty_bucket(self) -> None:
        bucket = self.settings.minio_bucket
        keys = [entry.object_name for entry in self._objects.list_objects(bucket, recursive=True)]
        errors = self._objects.remove_objects(bucket, [DeleteObject(key) for key in keys if key is not None])
        assert not list(errors)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(statement)


def external_of(settings: Settings) -> External:
    """The servers of a test as external ones of another stack."""
    objects = {
        "MINIO_ENDPOINT": settings.minio_endpoint,
        "MINIO_ACCESS_KEY": settings.minio_access_key,
        "MINIO_SECRET_KEY": settings.minio_secret_key.get_secret_value(),
    }
    return External(
        {
            "database": {"DATABASE_URL": settings.database_dsn},
            "redis": {"REDIS_URL": settings.redis_url.get_secret_value()},
            "s3": objects,
        }
    )


@contextmanager
def running_servers(data: Path) -> Iterator[Servers]:
    with Stack(data, api=False, workers=0, durable=False) as stack:
        yield Servers(stack)
