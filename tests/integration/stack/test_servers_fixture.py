"""The `settings` fixture keeps tests apart."""

import psycopg
import pytest
import redis

from fleet.migrate import pending
from fleet.objects import ObjectStore
from fleet.settings import Settings


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_a_migrated_database_an_empty_redis_and_an_empty_bucket(settings: Settings, turn: int) -> None:
    assert pending(settings.database_dsn) == []
    store = ObjectStore(settings)
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        assert connection.execute("select to_regclass('left_behind')").fetchone() == (None,)
        connection.execute("create table left_behind ()")
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        assert client.dbsize() == 0
        client.set("left-behind", turn)
    assert store.keys("") == []
    store.put_bytes("left-behind", b"x", media_type="text/plain", name="x")
