"""The loader of the named SQL blocks."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from fleet import sql
from fleet.sql import statements
from tests.support.clone import ROOT

TOPICS = sorted(path.name.removesuffix(".sql") for path in files(sql).iterdir() if path.name.endswith(".sql"))


def test_a_block_is_its_statement_without_name_and_description() -> None:
    blocks = statements("uploads")
    assert blocks["forget_idempotency_keys"].startswith("DELETE FROM idempotency")
    assert not [name for name, text in blocks.items() if "--" in text or text.endswith(";") or not text]


def test_a_name_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "twice.sql").write_text("-- a --\nSELECT 1;\n\n-- a --\nSELECT 2\n")
    monkeypatch.setattr(sql, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match="'a' twice"):
        statements.__wrapped__("twice")


@pytest.mark.parametrize("topic", TOPICS)
def test_every_block_is_used(topic: str) -> None:
    code = "\n".join(
        path.read_text("utf-8") for package in ("fleet", "api", "worker") for path in (ROOT / package).rglob("*.py")
    )
    names = set(re.findall(r'"([a-z_]+)"', code))
    assert set(statements(topic)) <= names


@pytest.mark.parametrize("topic", TOPICS)
def test_what_a_block_is_given_is_cast_or_known(topic: str) -> None:
    """A doubled percent sign stands for one; a single one must begin a named parameter."""
    for name, text in statements(topic).items():
        assert not re.findall(r"%(?![(%])", text.replace("%%", "")), name
