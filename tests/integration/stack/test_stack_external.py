"""Servers that run elsewhere take the place of ours."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.stack import Stack
from cli.stack.external import External, resolve
from fleet.errors import DependencyError, ValidationFailed
from fleet.settings import Settings
from tests.support.servers import external_of
from tests.support.up_process import fleet_up


def test_named_servers_are_used_and_none_is_started_in_their_place(settings: Settings, tmp_path: Path) -> None:
    options = ("--workers", "0", "--port", "0", "--external", "database,redis,s3")
    with fleet_up(tmp_path / "data", *options, environment=external_of(settings).environment) as up:
        assert [child.name for child in up.status.children] == ["api"]
        assert up.status.external == ["database", "redis", "s3"]
        secrets = [settings.minio_secret_key.get_secret_value(), settings.database_dsn.split("@")[0].split(":")[-1]]
        assert not [secret for secret in secrets if secret in up.output]


def test_one_server_may_be_external_and_the_others_ours(settings: Settings, tmp_path: Path) -> None:
    external = resolve(Settings(_env_file=None), database_url=settings.database_dsn)
    with Stack(tmp_path, api=False, workers=0, external=external, durable=False) as stack:
        assert set(stack.pids) == {"valkey", "seaweedfs"}
        assert stack.settings().database_dsn == settings.database_dsn
        assert stack.settings().redis_url != settings.redis_url


def test_addresses_in_the_environment_alone_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://other.example/fleet")
    assert resolve(Settings(_env_file=None)) == External()


def test_external_server_that_does_not_answer_fails_the_start(tmp_path: Path) -> None:
    url = "redis://:hidden@127.0.0.1:1/0"
    with pytest.raises(DependencyError, match="Redis does not answer") as caught:
        Stack(tmp_path, api=False, workers=0, external=External({"redis": {"REDIS_URL": url}})).start()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"servers": ["kafka"]}, "knows database, redis, s3"),
        ({"servers": ["database"]}, "needs DATABASE_URL or POSTGRES_SERVER"),
        ({"servers": ["redis"]}, "needs REDIS_URL"),
        ({"s3_endpoint": "ftp://store.example"}, "host:port"),
        ({"s3_endpoint": "store.example:9000"}, "MINIO_ACCESS_KEY"),
    ],
)
def test_external_server_that_is_not_described_well_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationFailed, match=message):
        resolve(Settings(_env_file=None), **options)  # type: ignore[arg-type]


def test_scheme_of_the_endpoint_decides_on_tls() -> None:
    base = Settings(_env_file=None, minio_access_key="key", minio_secret_key=SecretStr("secret"))
    for address, secure in (("https://s3.example", "true"), ("http://s3.example:9000", "false")):
        told = resolve(base, s3_endpoint=address).environment
        assert (told["MINIO_ENDPOINT"], told["MINIO_SECURE"]) == (address.partition("://")[2], secure)
