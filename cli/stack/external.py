"""Servers that are not ours to start: which they are, and whether they answer.

A server is external only when it was said so: by its URL (`--database-url`, `--redis-url`, `--s3-endpoint`) or by
its name (`--external database,redis,s3`, the address then being that of the settings). A DATABASE_URL that merely
stands in the environment changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cli.stack import probes
from fleet.errors import ValidationFailed
from fleet.settings import Settings

SERVERS = ("database", "redis", "s3")
#: Settings that name each server; one of them must be set for `--external`.
_NAMES = {
    "database": ("database_url", "postgres_server"),
    "redis": ("redis_url",),
    "s3": ("minio_endpoint",),
}


@dataclass(frozen=True)
class External:
    """Settings of the external servers, by server. Values hold secrets: not part of the repr."""

    settings: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def __contains__(self, server: str) -> bool:
        return server in self.settings

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for settings in self.settings.values() for name, value in settings.items()}

    def check(self) -> None:
        """Raises DependencyError for the first that does not answer. The bucket is made when it is missing."""
        settings = Settings(_env_file=None, **{name.lower(): v for name, v in self.environment.items()})  # type: ignore[arg-type]
        if "redis" in self:
            probes.redis_answers(settings.redis_url.get_secret_value())
        if "database" in self:
            probes.postgres_answers(settings.database_dsn)
        if "s3" in self:
            probes.objects_answer(settings)


def resolve(
    settings: Settings,
    *,
    servers: Iterable[str] = (),
    database_url: str | None = None,
    redis_url: str | None = None,
    s3_endpoint: str | None = None,
) -> External:
    """`settings` are those of the environment and `.env`. Raises ValidationFailed `invalid-external-server`."""
    named = set(servers)
    for server in sorted(named - set(SERVERS)):
        raise _wrong(f"--external knows {', '.join(SERVERS)}, and not {server!r}")
    for server in sorted(named):
        given = {"database": database_url, "redis": redis_url, "s3": s3_endpoint}[server]
        if given is None and not set(_NAMES[server]) & settings.model_fields_set:
            wanted = " or ".join(name.upper() for name in _NAMES[server])
            raise _wrong(f"--external {server} needs {wanted} in the environment or in .env")
    found: dict[str, dict[str, str]] = {}
    if database_url is not None or "database" in named:
        found["database"] = {"DATABASE_URL": database_url or settings.database_dsn}
    if redis_url is not None or "redis" in named:
        found["redis"] = {"REDIS_URL": redis_url or settings.redis_url.get_secret_value()}
    if s3_endpoint is not None or "s3" in named:
        found["s3"] = _objects(settings, s3_endpoint)
    return External(found)


def _objects(settings: Settings, endpoint: str | None) -> dict[str, str]:
    """The endpoint may be a URL, whose scheme then decides on TLS; its keys only ever come from the settings."""
    secure = settings.minio_secure
    address = endpoint or settings.minio_endpoint
    if "://" in address:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.username:
            raise _wrong("--s3-endpoint is host:port, http://host:port or https://host:port, nothing more")
        secure, address = parts.scheme == "https", parts.netloc
    if not settings.minio_access_key or not settings.minio_secret_key.get_secret_value():
        raise _wrong("an external S3 needs MINIO_ACCESS_KEY and MINIO_SECRET_KEY in the environment or in .env")
    found = {
        "MINIO_ENDPOINT": address,
        "MINIO_ACCESS_KEY": settings.minio_access_key,
        "MINIO_SECRET_KEY": settings.minio_secret_key.get_secret_value(),
        "MINIO_SECURE": "true" if secure else "false",
        "MINIO_REGION": settings.minio_region,
        "MINIO_BUCKET": settings.minio_bucket,
    }
    if settings.minio_public_endpoint:
        found["MINIO_PUBLIC_ENDPOINT"] = settings.minio_public_endpoint
    return found


def _wrong(message: str) -> ValidationFailed:
    return ValidationFailed(message, code="invalid-external-server")
