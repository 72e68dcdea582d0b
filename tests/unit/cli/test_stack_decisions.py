"""What the local stack decides without starting anything: addresses, keys, waits, what may be shown."""

import socket

import pytest
from pydantic import SecretStr

from cli.stack import ports
from cli.stack.backoff import Backoff
from cli.stack.front_door import is_loopback, open_front_door
from cli.stack.shown_address import shown_dsn, shown_url
from cli.stack.state import State
from cli.stack_tables import duration
from fleet.errors import ValidationFailed
from fleet.keys import ANONYMOUS
from fleet.settings import Settings


def plain(**changes: object) -> Settings:
    return Settings(_env_file=None, **{"api_keys": SecretStr(""), **changes})  # type: ignore[arg-type]


def test_api_that_others_can_reach_asks_for_a_key_that_is_made_once() -> None:
    state = State()
    first = open_front_door(plain(), state, host="0.0.0.0", asked_port=0, embedded_objects=True)
    again = open_front_door(plain(), state, host="0.0.0.0", asked_port=0, embedded_objects=True)
    assert first.api_key is not None
    assert first.api_key == again.api_key == state.api_key
    assert first.api_key not in first.environment["API_KEYS"]
    server = Settings(_env_file=None, api_keys=SecretStr(first.environment["API_KEYS"]))
    assert list(server.tenant_keys.values()) == [ANONYMOUS]
    assert first.url == f"http://127.0.0.1:{first.port}"
    assert any("--show-key" in note for note in first.notes)


def test_keys_of_the_users_own_are_left_alone() -> None:
    state, own = State(), plain(api_keys=SecretStr("lab:secret-of-the-lab"))
    door = open_front_door(own, state, host="0.0.0.0", asked_port=0, embedded_objects=True)
    assert "API_KEYS" not in door.environment
    assert (door.api_key, state.api_key) == (None, None)


@pytest.mark.parametrize(
    ("host", "embedded", "access"),
    [("0.0.0.0", True, "proxy"), ("0.0.0.0", False, None), ("127.0.0.1", True, None)],
)
def test_bytes_go_through_the_api_where_others_cannot_reach_the_store(
    host: str, embedded: bool, access: str | None
) -> None:
    door = open_front_door(plain(), State(), host=host, asked_port=0, embedded_objects=embedded)
    assert door.environment.get("OBJECT_ACCESS") == access


def test_loopback_needs_no_key() -> None:
    door = open_front_door(plain(), State(), host="127.0.0.1", asked_port=0, embedded_objects=True)
    assert (door.api_key, door.notes) == (None, ())


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="not an address of this machine"):
        open_front_door(plain(), State(), host="192.0.2.1", asked_port=0, embedded_objects=True)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_loopback_counts_as_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_remembered_ports_are_kept_while_they_are_free() -> None:
    known = ports.assign({}, ["a", "b"])
    assert ports.assign(known, ["a", "b"]) == known
    with socket.create_server((ports.LOOPBACK, known["a"])):
        moved = ports.assign(known, ["a", "b"])
    assert moved["b"] == known["b"]
    assert moved["a"] != known["a"]


def test_waits_double_up_to_a_bound_and_a_long_run_is_a_fresh_start() -> None:
    backoff = Backoff(first_s=0.5, most_s=3.0, reset_after_s=60.0)
    assert [backoff.after_run_of(1.0) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.after_run_of(61.0) == 0.5
    assert backoff.after_run_of(1.0) == 1.0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hidden@db.example:6379/0", "redis://db.example:6379/0"),
        ("rediss://user:hidden@db.example/1?password=hidden", "rediss://db.example/1"),
    ],
)
def test_shown_url_has_no_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:hidden@db.example:5433/jobs", "postgresql://me@db.example:5433/jobs"),
        ("postgresql://db.example/jobs?user=me&password=hidden", "postgresql://me@db.example/jobs"),
        ("host=db.example user=me password=hidden dbname=jobs", "postgresql://me@db.example/jobs"),
        ("not a dsn", "postgresql://…"),
    ],
)
def test_shown_dsn_has_no_password(dsn: str, shown: str) -> None:
    assert shown_dsn(dsn) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(42.9, "42 s"), (61, "1 min"), (12_000, "3 h 20 min"), (447_000, "5 d 4 h")]
)
def test_durations_read_like_words(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_generated_secrets_are_not_part_of_a_printed_state() -> None:
    state = State()
    state.complete([])
    state.ensure_api_key()
    assert state.api_key is not None
    assert not [secret for secret in (*state.secrets.values(), state.api_key) if secret in repr(state)]
