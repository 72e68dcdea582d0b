"""Whether a server really does its work. Each probe returns, or raises DependencyError with the reason.

The same probes serve our own servers and external ones. Timeouts are short: the supervisor waits for them.
"""

import http.client
import io

from fleet.errors import DependencyError
from fleet.settings import Settings

_TIMEOUT_S = 2
#: Small, in our own bucket, and outside the prefixes of uploads and results.
HEALTH_KEY = ".health"


def redis_answers(url: str) -> None:
    """AUTH and PING. A server that is still replaying its log (`LOADING`) does not answer yet."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # One attempt: whoever asks decides how often.
    once = Retry(NoBackoff(), 0)
    try:
        client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=once)
    except ValueError:
        # Its message may quote a part of the password.
        raise DependencyError("the Redis URL is not redis://… or rediss://…", code="redis-unavailable") from None
    try:
        client.ping()
    except redis.RedisError as error:
        raise DependencyError(f"Redis does not answer: {error}", code="redis-unavailable") from error
    finally:
        client.close()


def postgres_answers(dsn: str, *, create: str | None = None) -> None:
    """`select 1`; makes the database `create` if it is missing."""
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(dsn, connect_timeout=_TIMEOUT_S, autocommit=True) as connection:
            connection.execute("select 1")
            if create is not None:
                found = connection.execute("select 1 from pg_database where datname = %s", [create]).fetchone()
                if found is None:
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(create)))
    except psycopg.Error as error:
        raise DependencyError(f"PostgreSQL does not answer: {error}", code="database-unavailable") from error


def objects_answer(settings: Settings, *, write: bool = True) -> None:
    """Puts and gets an object, making the bucket first; with `write=False` only gets it.

    Listing is no proof: SeaweedFS lists buckets before it can store a byte.
    """
    import urllib3
    from minio import Minio
    from minio.error import MinioException

    pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT_S)
    client = Minio(
        settings.minio_endpoint,
        access_key=settings.minio_access_key,
        secret_key=settings.minio_secret_key.get_secret_value(),
        secure=settings.minio_secure,
        region=settings.minio_region,
        http_client=pool,
    )
    bucket = settings.minio_bucket
    try:
        if write:
            if not client.bucket_exists(bucket):
                client.make_bucket(bucket)
            client.put_object(bucket, HEALTH_KEY, io.BytesIO(b"ok"), 2)
        answer = client.get_object(bucket, HEALTH_KEY)
        content = answer.read()
        answer.close()
    except (MinioException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise DependencyError(f"the object store does not answer: {error}", code="object-store-unavailable") from error
    finally:
        pool.clear()
    if content != b"ok":
        raise DependencyError("the object store gave back other bytes than it got", code="object-store-unavailable")


def http_answers(host: str, port: int, path: str) -> None:
    """GET answers 200."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise DependencyError(f"GET {path} on port {port}: {error}", code="api-unavailable") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise DependencyError(f"GET {path} answers {answer.status}: {body}", code="api-unavailable")
