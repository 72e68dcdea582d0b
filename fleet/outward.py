"""The one guarded way out of Fleet, to URLs that users give: no request of theirs leads into a private network.

A name is resolved once, its addresses are judged, and the connection goes to exactly the judged address, with TLS and
`Host` for the name. Redirects are not followed, no proxy of the environment is used, and the whole exchange has one
bound in time that the other side cannot stretch by sending a byte now and then. Who wants an answer's body reads it
with `opened`; `fleet/download.py` follows redirects and goes on after a broken connection.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from fleet.addresses import Address, Reach, literal
from fleet.errors import NoAnswer, UrlRefused, ValidationFailed
from fleet.settings import Settings
from fleet.urls import Target, parse_url
from fleet.wire import Clock, Wire

#: A name and a port -> the addresses that it has now. Raises OSError.
Resolve = Callable[[str, int], Sequence[str]]
_CONNECT_S = 5.0
_MAX_ADDRESSES = 3
#: An answer's body is of no interest; a little of it is taken in, so that its sender can end in peace.
_DRAINED_BYTES, _DRAINED_S = 4096, 2.0


@dataclass(frozen=True)
class Answer:
    status: int
    #: Names in lower case; of several with one name the last.
    headers: Mapping[str, str]


class Incoming:
    """An answer whose body is still to be read."""

    def __init__(self, status: int, headers: Mapping[str, str], answer: http.client.HTTPResponse) -> None:
        self.status = status
        #: Names in lower case; of several with one name the last.
        self.headers = headers
        self._answer = answer

    def pieces(self, piece_bytes: int = 256 * 1024) -> Iterator[bytes]:
        """The body as it comes. Raises NoAnswer, `no-connection` where it ends before its announced length."""
        left = self._answer.length
        with _in_words():
            while piece := self._answer.read1(piece_bytes):
                if left is not None:
                    left -= len(piece)
                yield piece
        if left:
            raise NoAnswer("the connection ended in the middle of the answer", code="no-connection")


class Outward:
    """Stateless; thread-safe."""

    def __init__(
        self,
        reach: Reach,
        *,
        allow_http: bool = False,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        """`allow_http`: also to public addresses; to networks that `reach` allows it is always possible."""
        self._reach = reach
        self._allow_http = allow_http
        self._tls = tls or ssl.create_default_context()
        self._resolve = resolve or _resolved

    def check(self, url: str) -> Target:
        """What can be said without asking anybody. Raises UrlRefused `url-refused` or `address-refused`."""
        target = parse_url(url)
        addresses = literal(target.host)
        if addresses:
            self._admitted(target, addresses)
        elif target.scheme == "http" and not (self._allow_http or self._reach.widened):
            raise _unencrypted()
        return target

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        within_s: float,
    ) -> Answer:
        """One exchange, over after `within_s` seconds at the latest; only a slow resolver may take longer.

        Raises UrlRefused, and NoAnswer with the code `name-not-resolved`, `no-connection`, `tls-failed`, `timed-out`
        or `answer-unreadable`. Every answer with a status is an Answer, also one that redirects.
        """
        with self._exchange(method, url, headers, body, Clock(time.monotonic() + within_s)) as (answer, wire):
            wire.reader.clock = wire.reader.clock.shortened(_DRAINED_S)
            _drain(answer)
            return Answer(answer.status, _headers(answer))

    @contextmanager
    def opened(self, url: str, *, headers: Mapping[str, str], within_s: float, stall_s: float) -> Iterator[Incoming]:
        """A GET whose body the block reads, over after `within_s` seconds, or when nothing came for `stall_s`.

        Raises what `send` raises; `Incoming.pieces` does so, too.
        """
        clock = Clock(time.monotonic() + within_s, stall_s)
        with self._exchange("GET", url, headers, b"", clock) as (answer, _):
            yield Incoming(answer.status, _headers(answer), answer)

    @contextmanager
    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, clock: Clock
    ) -> Iterator[tuple[http.client.HTTPResponse, Wire]]:
        target = self.check(url)
        addresses = self._admitted(target, literal(target.host) or self._addresses(target))
        with ExitStack() as held:
            with _in_words():
                connected = held.enter_context(closing(_connected(addresses, target.port, clock)))
                if target.scheme == "https":
                    connected = held.enter_context(closing(self._secured(connected, target.host, clock)))
                request = _Request(method, target, {**headers, "Host": target.authority, "Connection": "close"}, body)
                wire = Wire(connected, clock)
                answer = held.enter_context(closing(_answered(request, wire)))
            # Not what goes wrong in the block: that need not be the connection's fault.
            yield answer, wire

    def _addresses(self, target: Target) -> list[Address]:
        try:
            found = self._resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise NoAnswer(f"the name {target.host} cannot be resolved", code="name-not-resolved") from error
        return [ip_address(text) for text in found]

    def _admitted(self, target: Target, addresses: Sequence[Address]) -> list[Address]:
        """Those that may be connected to. Raises UrlRefused when there are none."""
        reached = [address for address in addresses if self._reach.reaches(address)]
        if not reached:
            raise UrlRefused(
                f"{target.host} is in a private or reserved network: Fleet goes to public addresses, "
                "and to networks in OUTWARD_ALLOW_NETWORKS",
                code="address-refused",
            )
        if target.scheme == "http" and not self._allow_http:
            reached = [address for address in reached if self._reach.allows(address)]
            if not reached:
                raise _unencrypted()
        return reached

    def _secured(self, connected: socket.socket, host: str, clock: Clock) -> socket.socket:
        secured = self._tls.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
        try:
            # The timeout of a handshake bounds it as a whole.
            secured.settimeout(clock.left_s())
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


def outward_of(settings: Settings) -> Outward:
    """With TLS alone, but for networks that the operator allows. Raises ValidationFailed `ca-file-unusable`."""
    return Outward(Reach(settings.outward_allow_networks), tls=trusting(settings.outward_ca_file))


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """The authorities of the system, and those in the file. Raises ValidationFailed `ca-file-unusable`."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ValidationFailed(
                f"OUTWARD_CA_FILE={ca_file} cannot be used: {error.strerror or 'it holds no certificate in PEM form'}",
                code="ca-file-unusable",
            ) from error
    return context


@dataclass(frozen=True)
class _Request:
    method: str
    target: Target
    headers: dict[str, str]
    body: bytes


def _connected(addresses: Sequence[Address], port: int, clock: Clock) -> socket.socket:
    """To the first address that takes the connection. Raises OSError of the last one, or NoAnswer `timed-out`."""
    fault: OSError | None = None
    for address in addresses[:_MAX_ADDRESSES]:
        within_s = min(_CONNECT_S, clock.left_s())
        try:
            return socket.create_connection((str(address), port), within_s)
        except OSError as error:
            fault = error
    if fault is None or isinstance(fault, TimeoutError):
        raise NoAnswer(f"no connection within {_CONNECT_S:.0f} s", code="timed-out") from fault
    raise fault


def _answered(request: _Request, wire: Wire) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(request.target.host, request.target.port)
    connection.sock = cast(socket.socket, wire)
    connection.request(request.method, request.target.path, request.body or None, request.headers)
    return connection.getresponse()


def _headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.getheaders()}


@contextmanager
def _in_words() -> Iterator[None]:
    """What breaks on the way becomes NoAnswer, once, here."""
    try:
        yield
    except TimeoutError as error:
        raise NoAnswer("no answer in time", code="timed-out") from error
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(f"the certificate is not accepted: {error.verify_message}", code="tls-failed") from error
    except ssl.SSLError as error:
        raise NoAnswer(f"TLS failed: {error.reason or 'the connection ended'}", code="tls-failed") from error
    except http.client.HTTPException as error:
        raise NoAnswer(f"the answer is no HTTP ({type(error).__name__})", code="answer-unreadable") from error
    except OSError as error:
        raise NoAnswer(error.strerror or type(error).__name__, code="no-connection") from error


def _drain(answer: http.client.HTTPResponse) -> None:
    # Piece by piece: asked for a number of bytes at once, `http.client` believes a chunk that says it has -1 of them
    # and takes in whatever comes.
    left = _DRAINED_BYTES
    with suppress(OSError, ValueError, http.client.HTTPException):
        while left > 0 and (piece := answer.read1(left)):
            left -= len(piece)


def _resolved(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _unencrypted() -> UrlRefused:
    return UrlRefused(
        "the URL must begin with https://: without it Fleet goes to networks in OUTWARD_ALLOW_NETWORKS alone "
        "(a webhook to others, too, with WEBHOOK_ALLOW_HTTP)"
    )
