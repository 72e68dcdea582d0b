"""Signatures, as the published example and the standard's own library have them."""

import base64
import time

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from fleet.errors import ValidationFailed
from fleet.settings import Settings
from fleet.webhook_keys import WebhookKeys, parse_secrets, sign, written

OLD, NEW = (written(bytes([number]) * 32) for number in (1, 2))


def test_the_published_example_is_signed_as_published() -> None:
    (key,) = parse_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def headers(keys: WebhookKeys, body: bytes, *, timestamp: int) -> dict[str, str]:
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": keys.signature("ward", "msg_1", timestamp, body),
    }


def test_the_library_accepts_what_we_sign_and_nothing_that_was_touched() -> None:
    keys = WebhookKeys(parse_secrets(NEW))
    (secret,) = keys.of("ward")
    body = '{"name":"Ü"}'.encode()
    now = int(time.time())
    assert Webhook(secret).verify(body, headers(keys, body, timestamp=now)) == {"name": "Ü"}
    touched = headers(keys, body, timestamp=now) | {"webhook-id": "msg_2"}
    for refused in ((body + b" ", headers(keys, body, timestamp=now)), (body, touched)):
        with pytest.raises(WebhookVerificationError, match="No matching"):
            Webhook(secret).verify(*refused)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(body, headers(keys, body, timestamp=now - 3600))


def test_while_secrets_change_old_and_new_keys_both_verify() -> None:
    before, during = WebhookKeys(parse_secrets(OLD)), WebhookKeys(parse_secrets(f"{NEW}, {OLD}"))
    signed = headers(during, b"{}", timestamp=int(time.time()))
    assert during.of("ward")[1:] == before.of("ward")
    assert [Webhook(secret).verify(b"{}", signed) for secret in during.of("ward")] == [{}, {}]


def test_each_tenant_has_a_key_of_its_own_in_the_standards_form() -> None:
    keys = WebhookKeys(parse_secrets(NEW))
    ward, lab = keys.of("ward") + keys.of("lab")
    assert ward != lab
    assert ward == WebhookKeys(parse_secrets(NEW)).of("ward")[0]
    assert len(base64.b64decode(ward.removeprefix("whsec_"))) == 32
    assert NEW not in (ward, lab)


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "whsec_",
        "whsec_hunter2",
        "whsec_" + "h" * 31,
        written(b"x" * 23),
        written(b"x" * 65),
        f"{NEW},hunter2",
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValidationFailed, match="WEBHOOK_SECRETS entry") as refused:
        _ = Settings(_env_file=None, webhook_secrets=SecretStr(text)).webhook_keys
    assert refused.value.code == "invalid-webhook-secrets"
    assert "hunter2" not in refused.value.message


def test_a_secret_may_come_without_its_padding() -> None:
    assert parse_secrets(written(b"x" * 32).rstrip("=")) == [b"x" * 32]


def test_without_secrets_nothing_is_configured() -> None:
    assert not Settings(_env_file=None, webhook_secrets=SecretStr("")).webhook_keys.configured
