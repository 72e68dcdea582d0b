"""What webhooks are signed with (Standard Webhooks 1.0.0): HMAC-SHA256 under keys that receivers know as `whsec_…`.

`WEBHOOK_SECRETS` holds the fleet's own secrets, newest first. Each tenant has a key made from each of them, so that no
tenant can sign for another, and nothing has to be stored.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from fleet.errors import ValidationFailed

PREFIX = "whsec_"


class WebhookKeys:
    def __init__(self, secrets: Sequence[bytes]) -> None:
        """The fleet's secrets, newest first; none when webhooks are off."""
        self._secrets = tuple(secrets)

    @property
    def configured(self) -> bool:
        return bool(self._secrets)

    def of(self, tenant: str) -> list[str]:
        """The tenant's keys in the form that receivers are given, newest first."""
        return [written(_derived(secret, tenant)) for secret in self._secrets]

    def signature(self, tenant: str, message_id: str, timestamp: int, body: bytes) -> str:
        """The `webhook-signature` header: one signature for each key, so that receivers may change keys in peace."""
        keys = (_derived(secret, tenant) for secret in self._secrets)
        return " ".join(sign(key, message_id, timestamp, body) for key in keys)


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` over `<id>.<timestamp>.<body>`; the timestamp is in seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def written(key: bytes) -> str:
    return PREFIX + base64.b64encode(key).decode()


def parse_secrets(text: str) -> list[bytes]:
    """`whsec_…,whsec_…` -> the bytes. Raises ValidationFailed `invalid-webhook-secrets`, which repeats no secret."""
    entries = filter(None, (part.strip() for part in text.split(",")))
    return [_parsed(entry, position) for position, entry in enumerate(entries, start=1)]


def _parsed(entry: str, position: int) -> bytes:
    try:
        if not entry.startswith(PREFIX):
            raise ValueError
        # Many write it without its padding.
        encoded = entry.removeprefix(PREFIX).rstrip("=")
        secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        if not 24 <= len(secret) <= 64:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValidationFailed(
            f"WEBHOOK_SECRETS entry {position} is not `whsec_` and the base64 of 24 to 64 bytes: make one with "
            "`printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\"`",
            code="invalid-webhook-secrets",
        ) from None
    return secret


def _derived(secret: bytes, tenant: str) -> bytes:
    return hmac.digest(secret, b"fleet-webhooks:" + tenant.encode(), hashlib.sha256)
