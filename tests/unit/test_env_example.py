"""`.env.example` and the settings are the same list."""

import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from fleet.settings import COMPOSE_NAMES, Settings
from tests.support.compose import read_env_file
from tests.support.env_example import Entry, read_entries

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = read_entries(ROOT / ".env.example")
DEFAULTS = [entry for entry in ENTRIES if entry.is_default and entry.name not in COMPOSE_NAMES]
COMPOSE_SECTION = "Read by docker-compose alone"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_every_setting_is_in_the_example_and_nothing_else() -> None:
    named = {entry.name for entry in ENTRIES if entry.section != COMPOSE_SECTION}
    assert named == {name.upper() for name in Settings.model_fields}


def test_names_for_compose_alone_are_known_as_such() -> None:
    assert {entry.name for entry in ENTRIES if entry.section == COMPOSE_SECTION} == COMPOSE_NAMES


def test_every_name_stands_once_under_a_comment_of_its_own() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
    assert not [entry.name for entry in ENTRIES if not entry.comment]


@pytest.mark.parametrize("entry", DEFAULTS, ids=lambda entry: entry.name)
def test_a_commented_line_states_the_default(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings.model_fields[entry.name.lower()].get_default(call_default_factory=True)
    if default is None:
        assert entry.value == ""
        return
    monkeypatch.setenv(entry.name, entry.value)
    read = getattr(Settings(_env_file=None), entry.name.lower())
    assert read == default


def test_unknown_names_in_an_env_file_are_found_and_compose_names_are_not(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text((ROOT / ".env.example").read_text("utf-8") + "POSTGRES_PASWORD=x\nCOMPOSE_FILE=a.yml\n")
    assert Settings(_env_file=None).unknown_names(env_file) == ["POSTGRES_PASWORD"]


def test_production_refuses_the_secrets_of_the_example() -> None:
    with pytest.raises(ValidationError, match="change-me") as refused:
        Settings(_env_file=ROOT / ".env.example")
    assert "POSTGRES_PASSWORD" in str(refused.value)
    assert "API_KEYS" in str(refused.value)


def test_a_refused_setting_does_not_show_secrets() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, postgres_password=SecretStr("hunter2"), api_keys="t:hunter2", lease_s=-1)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, minio_secret_key="hunter2", inference_device="cpu", worker_pool="gpu")
    assert "hunter2" not in str(refused.value)


def test_make_env_writes_fresh_secrets_once(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / ".env.example").write_bytes((ROOT / ".env.example").read_bytes())
    script = tmp_path / "docker" / "make-env.sh"
    script.write_bytes((ROOT / "docker" / "make-env.sh").read_bytes())
    subprocess.run(["sh", script], check=True, capture_output=True)

    written = read_env_file(tmp_path / ".env")
    example = read_env_file(tmp_path / ".env.example")
    fresh = [value for name, value in written.items() if "change-me" in example[name]]
    assert written.keys() == example.keys()
    assert len(fresh) == len(set(fresh)) >= 5
    assert not [value for value in fresh if "change-me" in value or len(value) < 48]
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert Settings(_env_file=tmp_path / ".env").tenant_keys.popitem()[1] == "default"

    again = subprocess.run(["sh", script], check=False, capture_output=True, text=True)
    assert again.returncode != 0
    assert "exists already" in again.stderr
    assert read_env_file(tmp_path / ".env") == written
