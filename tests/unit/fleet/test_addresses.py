"""Where Fleet may go for somebody else, and which URLs it can read at all."""

from ipaddress import ip_address, ip_network

import pytest

from fleet.addresses import Reach, is_public
from fleet.errors import UrlRefused
from fleet.outward import Outward
from fleet.urls import parse_url

CLOSED = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.127.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "4000::1",
]  # fmt: skip
OPEN = [
    "8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "9.255.255.255",
    "11.0.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001:81b::200e", "2001:4860:4860::8888",
]  # fmt: skip


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_not_the_public_internet_is_closed(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not Reach().reaches(ip_address(address))


@pytest.mark.parametrize("address", OPEN)
def test_public_addresses_are_open(address: str) -> None:
    assert is_public(ip_address(address))


def test_an_allowed_network_opens_itself_and_nothing_else() -> None:
    reach = Reach([ip_network("10.20.0.0/16"), ip_network("fd00:20::/64")])
    assert reach.reaches(ip_address("10.20.3.4"))
    assert reach.reaches(ip_address("fd00:20::7"))
    assert not reach.reaches(ip_address("10.21.0.1"))
    assert not reach.reaches(ip_address("::ffff:10.20.3.4"))
    assert reach.reaches(ip_address("8.8.8.8"))
    assert not reach.allows(ip_address("8.8.8.8"))


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("https://example.org", "https://example.org/"),
        ("HTTPS://Example.ORG:443/a?b=c", "https://example.org/a?b=c"),
        ("http://example.org.:80?x", "http://example.org/?x"),
        ("https://example.org:8443//a/../b", "https://example.org:8443//a/../b"),
        ("https://[2606:4700:0::1111]:8443/", "https://[2606:4700::1111]:8443/"),
        ("https://xn--bcher-kva.example/%C3%BC", "https://xn--bcher-kva.example/%C3%BC"),
        ("https://a_b.internal/", "https://a_b.internal/"),
    ],
)
def test_a_url_has_one_spelling(url: str, read: str) -> None:
    assert parse_url(url).url == read
    assert parse_url(read).url == read


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "//example.org/", "/hook", "https://", "https:///path", "ftp://example.org/",
        "file:///etc/passwd", "gopher://example.org/", "https://user@example.org/", "https://user:pw@example.org/",
        "https://@example.org/", "https://example.org/#part", "https://example.org:0/", "https://example.org:22/",
        "https://example.org:65536/", "https://example.org:x/", "https://exa mple.org/", "https://example.org/\n",
        "https://example.org\\@evil.example/", "https://bücher.example/", "https://2130706433/", "https://0x7f.1/",
        "https://127.1/", "https://0177.0.0.1/", "https://1.2.3.4.5/", "https://example.0x7f/", "https://[::1/",
        "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://a..b/", "https://-a.example/",
        "https://exa%6dple.org/", "https://" + "a" * 64 + ".org/", "https://example.org/" + "a" * 2048,
    ],
)  # fmt: skip
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        parse_url(url)
    assert refused.value.code == "url-refused"
    assert "pw" not in refused.value.message


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://localhost/", "https://a.localhost:8443/", "https://[::1]/",
            "https://10.0.0.1/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest/meta-data/"],
)  # fmt: skip
def test_a_private_address_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        Outward(Reach()).check(url)
    assert refused.value.code == "address-refused"


def test_plain_http_needs_leave() -> None:
    with pytest.raises(UrlRefused, match="https://"):
        Outward(Reach()).check("http://example.org/")
    with pytest.raises(UrlRefused, match="https://"):
        Outward(Reach()).check("http://8.8.8.8/")
    Outward(Reach(), allow_http=True).check("http://example.org/")
    inside = Outward(Reach([ip_network("10.0.0.0/8")]))
    assert inside.check("http://10.0.0.1/").port == 80
    with pytest.raises(UrlRefused, match="https://"):
        inside.check("http://8.8.8.8/")
