"""URLs that users give, taken apart once: whoever goes there uses the parts, so that no second reader differs."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from fleet.errors import UrlRefused

MAX_LENGTH = 2048
_DEFAULT_PORTS = {"https": 443, "http": 80}
#: A name as DNS and its neighbours have it; international names come in their `xn--` form.
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
#: `2130706433`, `0x7f.1` and `127.1` are addresses to a resolver, and a way around whoever reads only text.
_NUMBER_LAST = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")


@dataclass(frozen=True)
class Target:
    """Where a URL leads. `host` is in lower case and without brackets; `path` has the query with it."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """For the `Host` header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_url(url: str) -> Target:
    """Raises UrlRefused, whose message never repeats the URL: paths may hold secrets."""
    if len(url) > MAX_LENGTH:
        raise UrlRefused(f"the URL has more than {MAX_LENGTH} characters")
    if not re.fullmatch(r"[\x21-\x7e]+", url) or "\\" in url:
        raise UrlRefused("the URL must consist of visible ASCII characters: percent-encode the others")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise UrlRefused("the URL cannot be read: its host or port is malformed") from error
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise UrlRefused("the URL must be absolute: https://host/path")
    if "@" in parts.netloc:
        raise UrlRefused("the URL must not hold a user name or password")
    if "#" in url:
        raise UrlRefused("the URL must not have a fragment (`#`): no server ever sees one")
    if port is None:
        port = _DEFAULT_PORTS[parts.scheme]
    if port < 1024 and port not in _DEFAULT_PORTS.values():
        raise UrlRefused(f"port {port} belongs to another kind of server: use 443, 80, or one from 1024 on", port=port)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, _checked_host(host), port, path)


def _checked_host(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        pass
    else:
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise UrlRefused("the URL's address must not name an interface of this machine (`%`)")
        return str(address)
    if _NUMBER_LAST.fullmatch(host) or not _NAME.fullmatch(host):
        raise UrlRefused(
            "the URL's host is neither a name nor an address: write addresses as 192.0.2.1 or [2001:db8::1]"
        )
    return host
