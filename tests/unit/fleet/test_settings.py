"""Settings that are more than a value: URLs, providers, lists, faults."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from fleet.contracts import Lane, Pool
from fleet.cpus import usable_cpus
from fleet.errors import ValidationFailed
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER, Settings, read_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


@pytest.mark.parametrize(
    ("values", "providers"),
    [
        ({}, [CUDA_PROVIDER, CPU_PROVIDER]),
        ({"inference_device": "cuda"}, [CUDA_PROVIDER, CPU_PROVIDER]),
        ({"inference_device": "cpu"}, [CPU_PROVIDER]),
        ({"onnx_providers": [TENSORRT_PROVIDER, CUDA_PROVIDER]}, [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER]),
        ({"onnx_providers": [CPU_PROVIDER, CUDA_PROVIDER]}, [CUDA_PROVIDER, CPU_PROVIDER]),
        ({"onnx_providers": [CPU_PROVIDER]}, [CPU_PROVIDER]),
        ({"onnx_providers": [CUDA_PROVIDER], "inference_device": "cpu"}, [CPU_PROVIDER]),
    ],
)
def test_the_providers_to_try_end_with_the_cpu(values: dict[str, Any], providers: list[str]) -> None:
    assert settings(**values).effective_onnx_providers == providers


def test_lists_may_be_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_LANES", "bulk, interactive")
    monkeypatch.setenv("PRELOAD_MODELS", "a,,b ")
    monkeypatch.setenv("ONNX_PROVIDERS", '["X"]')
    read = read_settings()
    assert read.worker_lanes == [Lane.BULK, Lane.INTERACTIVE]
    assert read.preload_models == ["a", "b"]
    assert read.onnx_providers == ["X"]


def test_the_database_url_is_made_of_its_parts_with_everything_escaped() -> None:
    made = settings(postgres_user="a@b", postgres_password=SecretStr("p/w:?"), postgres_server="db", postgres_db="x")
    assert made.database_dsn == "postgresql://a%40b:p%2Fw%3A%3F@db:5432/x"
    assert settings(postgres_password=SecretStr("")).database_dsn == "postgresql://fleet@localhost:5432/fleet"
    assert settings(database_url=SecretStr("postgresql://elsewhere/x")).database_dsn == "postgresql://elsewhere/x"


def test_orphans_get_longer_than_a_worker_may_hold_objects_without_a_lease() -> None:
    assert settings(lease_s=60.0, orphan_grace_s=180.0).orphan_grace_s == 180.0
    with pytest.raises(ValidationError, match="ORPHAN_GRACE_S=179 is too short"):
        settings(lease_s=60.0, orphan_grace_s=179.0)


def test_secrets_are_not_shown() -> None:
    shown = repr(settings(api_keys=SecretStr("a:hidden"), redis_url=SecretStr("redis://:hidden@h/0")))
    assert "hidden" not in shown


def test_a_promised_pool_must_fit_the_device() -> None:
    assert settings(worker_pool="gpu").declared_pool is Pool.GPU
    assert settings().declared_pool is None
    with pytest.raises(ValidationError, match="contradicts"):
        settings(worker_pool="gpu", inference_device="cpu")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("API_PORT", "hidden", "API_PORT: "),
        ("ONNX_PROVIDERS", "hidden", "onnx_providers"),
        ("LOG_LEVEL", "hidden", "LOG_LEVEL: "),
        ("WORKER_LANES", "hidden", "WORKER_LANES.0: "),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationFailed, match=told) as refused:
        read_settings()
    assert refused.value.code == "invalid-settings"
    assert "hidden" not in refused.value.message


def test_unknown_names_in_the_env_file_are_found(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("# MINIO_X=1\n\nLOG_LEVEL=INFO\nlog_format=json\nMINIO_ENDPONT=x\nREDIS_URL = redis://h\n")
    assert settings().unknown_names(env_file) == ["MINIO_ENDPONT"]
    assert settings().unknown_names(tmp_path / "none") == []


def test_keys_of_tenants_are_parsed_once() -> None:
    read = settings(api_keys=SecretStr("alice:one"))
    assert read.tenant_keys is read.tenant_keys
    assert list(read.tenant_keys.values()) == ["alice"]


def test_at_least_one_core_is_usable() -> None:
    assert usable_cpus() >= 1
