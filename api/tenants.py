"""Who calls: from an API key to a tenant."""

from collections.abc import Mapping

from starlette.datastructures import Headers

from fleet.errors import Unauthorized
from fleet.keys import ANONYMOUS, digest


class Tenants:
    """Looks keys up by their digest, so that the time of an answer says nothing about a key."""

    def __init__(self, tenant_of_digest: Mapping[str, str]) -> None:
        self._tenant_of_digest = tenant_of_digest

    @property
    def open(self) -> bool:
        """True when there are no keys and everybody is the tenant `default`."""
        return not self._tenant_of_digest

    def tenant(self, headers: Headers, *, bare: bool = False) -> str:
        """`bare`: `Authorization` may also be the key itself, without `Bearer`. Raises Unauthorized."""
        if self.open:
            return ANONYMOUS
        key = _key(headers, bare)
        if key is None:
            raise Unauthorized("an API key is needed: send `Authorization: Bearer <key>` or `X-API-Key: <key>`")
        tenant = self._tenant_of_digest.get(digest(key))
        if tenant is None:
            raise Unauthorized("this API key is not known here")
        return tenant


def _key(headers: Headers, bare: bool) -> str | None:
    sent = headers.get("authorization", "").strip()
    scheme, _, credentials = sent.partition(" ")
    if bare and sent and not credentials:
        return sent
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return headers.get("x-api-key")
