"""Something in each of the three servers that must still be there later."""

from io import BytesIO

import psycopg
import redis
from minio import Minio

from fleet.settings import Settings
from tests.support.up_process import sync_redis

_OBJECT = bytes(range(256)) * 4096


def _objects(settings: Settings) -> Minio:
    return Minio(
        settings.minio_endpoint,
        access_key=settings.minio_access_key,
        secret_key=settings.minio_secret_key.get_secret_value(),
        secure=False,
        region=settings.minio_region,
    )


def keep_data(settings: Settings) -> None:
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute("create table kept as select generate_series(1, 1000) as number")
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        client.rpush("kept", *range(1000))
    sync_redis(settings)
    _objects(settings).put_object(settings.minio_bucket, "kept", BytesIO(_OBJECT), len(_OBJECT))


def assert_data_kept(settings: Settings) -> None:
    with psycopg.connect(settings.database_dsn) as connection:
        assert connection.execute("select count(*), sum(number) from kept").fetchone() == (1000, 500500)
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        assert client.lrange("kept", 0, -1) == [str(number).encode() for number in range(1000)]
    answer = _objects(settings).get_object(settings.minio_bucket, "kept")
    try:
        assert answer.read() == _OBJECT
    finally:
        answer.close()
        answer.release_conn()
