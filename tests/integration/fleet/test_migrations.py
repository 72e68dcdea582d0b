"""The schema and its migrations."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import psycopg
import pytest

from fleet.errors import DependencyError
from fleet.migrate import SchemaTooNew, migrate, migrations, pending
from tests.support.servers import Servers

_NUMBERS = count(1)
SHAPE = """
select table_name, column_name, data_type, is_nullable, column_default from information_schema.columns
 where table_schema = 'public'
union all
select tablename, indexname, indexdef, null, null from pg_indexes where schemaname = 'public'
union all
select conrelid::regclass::text, conname, pg_get_constraintdef(oid), null, null from pg_constraint
 where connamespace = 'public'::regnamespace
order by 1, 2, 3"""


@pytest.fixture
def empty(servers: Servers) -> Iterator[str]:
    """The DSN of a database without any table."""
    name = f"empty_{next(_NUMBERS)}"
    yield servers.create_database(name)
    servers.drop_database(name)


def shape(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(SHAPE).fetchall()


def test_the_schema_is_the_sum_of_the_migrations(empty: str, servers: Servers) -> None:
    known = [migration.number for migration in migrations()]
    assert pending(empty) == known
    with psycopg.connect(empty) as connection:
        for migration in migrations():
            connection.execute(migration.sql.encode())
    by_hand = shape(empty)
    with servers.fresh() as settings:
        migrated = [row for row in shape(settings.database_dsn) if row[0] != "migration"]
        assert pending(settings.database_dsn) == []
    assert by_hand == migrated
    assert {row[0] for row in by_hand} == {
            "job", "job_source", "idempotency", "upload", "model_card", "worker", "worker_death",
            "webhook_delivery", "webhook_try", "record_identity", "job_word", "service_time", "traffic",
            "model_version", "model_alias", "model_desire", "model_house", "model_usage",
            "job_part", "job_stream", "job_input",
        }  # fmt: skip


def test_migrating_twice_does_nothing_more(empty: str) -> None:
    assert migrate(empty) == [migration.number for migration in migrations()]
    assert migrate(empty) == []
    assert pending(empty) == []


def test_several_that_migrate_at_once_apply_each_migration_once(empty: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        applied = list(threads.map(lambda _: migrate(empty), range(6)))
    assert sorted(number for numbers in applied for number in numbers) == [m.number for m in migrations()]


def test_a_database_of_a_newer_version_is_refused(empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("insert into migration (number, name) values (9999, '9999_from_the_future.sql')")
    for ask in (pending, migrate):
        with pytest.raises(SchemaTooNew, match="9999"):
            ask(empty)


def test_a_migration_that_fails_leaves_nothing_behind(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet import migrate as module

    broken = module.Migration(len(migrations()) + 1, "9998_broken.sql", "create table half (); select no_such_thing()")
    complete = [*migrations(), broken]
    monkeypatch.setattr(module, "migrations", lambda: complete)
    with pytest.raises(psycopg.errors.UndefinedFunction):
        migrate(empty)
    assert pending(empty) == [broken.number]
    assert "half" not in {row[0] for row in shape(empty)}


def test_a_server_that_is_away_is_a_dependency_error() -> None:
    with pytest.raises(DependencyError) as refused:
        pending("postgresql://fleet:hidden@127.0.0.1:1/fleet")
    assert refused.value.code == "database-unavailable"
    assert "hidden" not in refused.value.message


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [migration.number for migration in migrations()] == list(range(1, len(migrations()) + 1))
