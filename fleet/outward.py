"""The one guarded way out of Fleet, to URLs that users give: no request of theirs leads into a private network.

A name is resolved once, its addresses are judged, and the connection goes to exactly the judged address, with TLS and
`Host` for the name. Redirects are not followed, no proxy of the environment is used, and the whole exchange has one
bound in time that a receiver cannot stretch by sending a byte now and then.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from fleet.addresses import Address, Reach, literal
from fleet.errors import NoAnswer, UrlRefused, ValidationFailed
from fleet.urls import Target, parse_url

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
        clock = _Clock(time.monotonic() + within_s)
        target = self.check(url)
        addresses = self._admitted(target, literal(target.host) or self._addresses(target))
        try:
            connected = _connected(addresses, target.port, clock)
            try:
                if target.scheme == "https":
                    connected = self._secured(connected, target.host, clock)
                request = _Request(method, target, {**headers, "Host": target.authority, "Connection": "close"}, body)
                return _exchanged(request, connected, clock)
            finally:
                connected.close()
        except TimeoutError as error:
            raise NoAnswer(f"no answer within {within_s:.0f} s", code="timed-out") from error
        except ssl.SSLCertVerificationError as error:
            raise NoAnswer(f"the certificate is not accepted: {error.verify_message}", code="tls-failed") from error
        except ssl.SSLError as error:
            raise NoAnswer(f"TLS failed: {error.reason or 'the connection ended'}", code="tls-failed") from error
        except http.client.HTTPException as error:
            raise NoAnswer(f"the answer is no HTTP ({type(error).__name__})", code="answer-unreadable") from error
        except OSError as error:
            raise NoAnswer(error.strerror or type(error).__name__, code="no-connection") from error

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

    def _secured(self, connected: socket.socket, host: str, clock: "_Clock") -> socket.socket:
        secured = self._tls.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
        try:
            # The timeout of a handshake bounds it as a whole.
            secured.settimeout(clock.left_s())
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


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


class _Clock:
    """A moment after which nothing is waited for."""

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at

    def left_s(self) -> float:
        """Raises TimeoutError when nothing is left."""
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def shortened(self, to_s: float) -> "_Clock":
        return _Clock(min(self._ends_at, time.monotonic() + to_s))


class _TimedReader(io.RawIOBase):
    """A socket's timeout counts from byte to byte; here it is what is left of the whole."""

    def __init__(self, connected: socket.socket, clock: _Clock) -> None:
        self._connected = connected
        self.clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._connected.settimeout(self.clock.left_s())
        return self._connected.recv_into(buffer)


class _Wire:
    """As much of a socket as `http.client` uses. Who made the socket closes it."""

    def __init__(self, connected: socket.socket, clock: _Clock) -> None:
        self._connected = connected
        self._clock = clock
        self.reader = _TimedReader(connected, clock)

    def sendall(self, data: bytes) -> None:
        # Not by the socket's own: under TLS its timeout begins anew with every record.
        left = memoryview(data)
        while left:
            self._connected.settimeout(self._clock.left_s())
            left = left[self._connected.send(left) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self.reader)

    def close(self) -> None:
        pass


def _connected(addresses: Sequence[Address], port: int, clock: _Clock) -> socket.socket:
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


def _exchanged(request: _Request, connected: socket.socket, clock: _Clock) -> Answer:
    wire = _Wire(connected, clock)
    connection = http.client.HTTPConnection(request.target.host, request.target.port)
    connection.sock = cast(socket.socket, wire)
    connection.request(request.method, request.target.path, request.body, request.headers)
    answer = connection.getresponse()
    wire.reader.clock = clock.shortened(_DRAINED_S)
    _drain(answer)
    answer.close()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()})


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
    return UrlRefused("the URL must begin with https://, unless WEBHOOK_ALLOW_HTTP is set")
