"""The secret that a local stack signs webhooks with: made once, kept with the data, and never in the user's way."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cli.stack.blueprint import Blueprint, Options
from cli.stack.layout import Layout
from cli.stack.state import State, load, save
from fleet.settings import Settings

OPTIONS = Options(workers=0, port=0)


def environment(layout: Layout, state: State, **own: Any) -> dict[str, str]:
    base = Settings(_env_file=None, **{"webhook_secrets": SecretStr(""), **own})
    return Blueprint(OPTIONS, layout, state, base).environment


def completed(state: State) -> State:
    state.complete(OPTIONS.port_roles)
    return state


def test_a_stack_makes_one_secret_and_keeps_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    state = completed(State())
    save(layout, state)
    secret = environment(layout, state)["WEBHOOK_SECRETS"]
    assert environment(layout, completed(load(layout)))["WEBHOOK_SECRETS"] == secret
    assert Settings(_env_file=None, webhook_secrets=SecretStr(secret)).webhook_keys.configured
    assert environment(layout, completed(State()))["WEBHOOK_SECRETS"] != secret


def test_a_stack_of_before_webhooks_gets_one_and_keeps_its_other_secrets(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    old = completed(State())
    del old.secrets["webhooks"]
    save(layout, old)
    state = completed(load(layout))
    assert environment(layout, state)["WEBHOOK_SECRETS"] == state.secrets["webhooks"]
    assert {name: state.secrets[name] for name in old.secrets} == old.secrets


def test_a_secret_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    told = environment(layout, completed(State()), webhook_secrets=SecretStr("whsec_" + "a" * 48))
    assert "WEBHOOK_SECRETS" not in told
