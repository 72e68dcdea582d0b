"""Which addresses Fleet goes to for somebody else: those of the public internet, and networks that were allowed.

Written out here and not asked of `ipaddress`: what that calls global has multicast, 6to4 and NAT64 in it, and changes
from one version of Python to the next.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: IANA's registry of special IPv4 addresses (RFC 6890 and later), multicast and the reserved block; and the address
#: at which a large cloud serves its machines' secrets, public as it looks.
_CLOSED_V4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # between providers and their customers (CGNAT)
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's own services
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
#: Everything that IPv6 has for the public internet (RFC 4291). What lies outside is loopback, link-local, private,
#: multicast, or a form of an IPv4 address: mapped, compatible, NAT64.
_PUBLIC_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
)
_LOOPBACK = (ip_address("127.0.0.1"), ip_address("::1"))


class Reach:
    """Where Fleet may go: to public addresses, and to the networks that its operator allows."""

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def allows(self, address: Address) -> bool:
        """Whether the operator named a network that it lies in."""
        return any(address in network for network in self._allowed if network.version == address.version)

    def reaches(self, address: Address) -> bool:
        return self.allows(address) or is_public(address)

    @property
    def widened(self) -> bool:
        """Whether any network was allowed."""
        return bool(self._allowed)


def is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address in _PUBLIC_V6 and not any(address in network for network in _CLOSED_V6)


def literal(host: str) -> Sequence[Address]:
    """The addresses that a host stands for without asking anybody; none for an ordinary name."""
    if host == "localhost" or host.endswith(".localhost"):
        return _LOOPBACK
    try:
        return (ip_address(host),)
    except ValueError:
        return ()
