"""API keys: `API_KEYS` is a comma-separated list of `tenant:key`, or `tenant:sha256:<hex of the key>`.

Only digests are kept in memory; a key that arrives is hashed and looked up.
"""

import hashlib
import re

from fleet.errors import ValidationFailed

ANONYMOUS = "default"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def parse_api_keys(text: str) -> dict[str, str]:
    """-> {sha256 of the key: tenant}. The message of a fault never repeats the key."""
    keys: dict[str, str] = {}
    for position, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        tenant, _, secret = entry.partition(":")
        if not secret or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", tenant):
            raise ValidationFailed(
                f"API_KEYS entry {position} is not `tenant:key` or `tenant:sha256:<hex>` "
                "(a tenant is 1-64 letters, digits, '.', '_', '-')",
                code="invalid-api-keys",
            )
        if secret.startswith("sha256:"):
            value = secret.removeprefix("sha256:").lower()
            if not re.fullmatch(r"[0-9a-f]{64}", value):
                raise ValidationFailed(
                    f"API_KEYS entry {position}: sha256 needs 64 hex digits", code="invalid-api-keys"
                )
            keys[value] = tenant
        else:
            keys[digest(secret)] = tenant
    return keys
