"""API keys, as the settings write them."""

import pytest

from fleet.errors import ValidationFailed
from fleet.keys import digest, parse_api_keys


def test_keys_are_kept_as_digests_only() -> None:
    keys = parse_api_keys(" alice:one , bob:two:with:colons,,")
    assert keys == {digest("one"): "alice", digest("two:with:colons"): "bob"}


def test_a_key_may_be_given_by_its_digest() -> None:
    assert parse_api_keys(f"alice:sha256:{digest('one').upper()}") == parse_api_keys("alice:one")


def test_a_tenant_may_have_several_keys() -> None:
    assert set(parse_api_keys("alice:one,alice:two").values()) == {"alice"}


def test_no_keys_are_no_keys() -> None:
    assert parse_api_keys("") == parse_api_keys(" , ") == {}


@pytest.mark.parametrize("text", ["hidden", ":hidden", "alice:", "al ice:hidden", "a/b:hidden", "x" * 65 + ":hidden"])
def test_what_is_no_entry_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValidationFailed, match="entry 2") as refused:
        parse_api_keys(f"ok:key,{text}")
    assert "hidden" not in refused.value.message


def test_a_digest_must_be_one() -> None:
    with pytest.raises(ValidationFailed, match="64 hex digits"):
        parse_api_keys("alice:sha256:abc")
