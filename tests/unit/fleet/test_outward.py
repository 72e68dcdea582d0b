"""The guarded way out, against real sockets on loopback: where it connects, what it believes, how long it waits."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from fleet.addresses import Reach
from fleet.errors import NoAnswer, UrlRefused, ValidationFailed
from fleet.outward import Outward, trusting
from tests.support.receiver import certificate, receiver

LOOPBACK = Reach([ip_network("127.0.0.0/8")])


class Names:
    """A resolver whose answers a test writes: one list of addresses after the other, the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = list(answers)

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def post(outward: Outward, url: str, *, within_s: float = 10.0, body: bytes = b"{}") -> int:
    return outward.send("POST", url, headers={"X-Sent": "yes"}, body=body, within_s=within_s).status


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port at which every connection is given to `talk`."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    talk(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def test_the_request_arrives_whole_at_the_name_it_was_sent_to() -> None:
    names = Names(["127.0.0.1"])
    with receiver(204) as server:
        url = server.url("/hook?a=%2F", host="receiver.test")
        assert post(Outward(LOOPBACK, resolve=names), url, body=b"hello") == 204
        (arrived,) = server.received
    assert (arrived.path, arrived.body) == ("/hook?a=%2F", b"hello")
    assert arrived.headers["host"] == f"receiver.test:{server.port}"
    assert arrived.headers["x-sent"] == "yes"
    assert names.asked == [("receiver.test", server.port)]


def test_a_name_is_resolved_once_and_only_the_judged_address_is_met() -> None:
    """DNS rebinding: the second answer would lead inside."""
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    with receiver() as server, pytest.raises(NoAnswer) as refused:
        post(Outward(Reach([ip_network("127.0.0.2/32")]), resolve=names), server.url(host="rebinds.test"))
    assert refused.value.code == "no-connection"
    assert (len(names.asked), server.received) == (1, [])


@pytest.mark.parametrize(
    "answer", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%lo"]
)
def test_a_name_that_leads_inside_is_refused(answer: str) -> None:
    with receiver() as server, pytest.raises(UrlRefused) as refused:
        post(Outward(Reach(), resolve=Names([answer]), allow_http=True), server.url(host="inside.test"))
    assert refused.value.code == "address-refused"
    assert server.received == []


def test_of_several_addresses_only_those_that_are_allowed_are_met() -> None:
    names = Names(["10.0.0.1", "::1", "127.0.0.1"])
    with receiver() as server:
        assert post(Outward(LOOPBACK, resolve=names), server.url(host="both.test")) == 204


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with receiver() as server:
        names = Names(["127.0.0.9", "127.0.0.1"])
        assert post(Outward(LOOPBACK, resolve=names), server.url(host="two.test")) == 204


def test_plain_http_goes_to_allowed_networks_alone() -> None:
    with receiver() as server:
        assert post(Outward(LOOPBACK, resolve=Names(["127.0.0.1"])), server.url(host="a.test")) == 204
        with pytest.raises(UrlRefused) as refused:
            post(Outward(LOOPBACK, resolve=Names(["8.8.8.8"])), server.url(host="a.test"))
    assert refused.value.code == "url-refused"


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with receiver() as target, receiver((307, {"Location": target.url()})) as server:
        assert post(Outward(LOOPBACK), server.url()) == 307
        assert target.received == []


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with receiver() as server:
        assert post(Outward(LOOPBACK), server.url()) == 204


def test_a_server_that_drips_its_head_is_left_in_time() -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not stop.wait(0.05):
            connection.sendall(b"x")

    with raw_server(drip) as port:
        begun = time.monotonic()
        with pytest.raises(NoAnswer) as refused:
            post(Outward(LOOPBACK), f"http://127.0.0.1:{port}/", within_s=0.5)
        took_s = time.monotonic() - begun
        stop.set()
    assert refused.value.code == "timed-out"
    # Not a measure of speed: without the bound it would never end.
    assert took_s < 30


def test_a_handshake_that_drips_is_left_in_time() -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        # The head of a TLS record that never gets whole.
        connection.sendall(b"\x16\x03\x03\x40\x00")
        while not stop.wait(0.05):
            connection.sendall(b"\x02")

    with raw_server(drip) as port:
        with pytest.raises(NoAnswer) as refused:
            post(Outward(LOOPBACK), f"https://127.0.0.1:{port}/", within_s=0.5)
        stop.set()
    assert refused.value.code == "timed-out"


def test_a_server_that_takes_nothing_in_is_left_in_time() -> None:
    stop = threading.Event()
    with raw_server(lambda _: stop.wait(60) and None) as port:
        with pytest.raises(NoAnswer) as refused:
            post(Outward(LOOPBACK), f"http://127.0.0.1:{port}/", within_s=0.5, body=bytes(32 * 1024**2))
        stop.set()
    assert refused.value.code == "timed-out"


def test_a_server_that_drips_its_body_has_answered_all_the_same() -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while not stop.wait(0.05):
            connection.sendall(b"x")

    with raw_server(drip) as port:
        assert post(Outward(LOOPBACK), f"http://127.0.0.1:{port}/", within_s=0.5) == 200
        stop.set()


@pytest.mark.parametrize("size", [b"-1", b"-5", b"no number", b"f" * 5000])
def test_a_chunk_of_an_impossible_size_is_not_taken_in(size: bytes) -> None:
    """`http.client` reads a chunk of -1 bytes to the end of the stream, wherever that is."""
    taken = 0

    def pour(connection: socket.socket) -> None:
        nonlocal taken
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n")
        connection.settimeout(10)
        while taken < 64 * 1024**2:
            connection.sendall(bytes(65536))
            taken += 65536

    with raw_server(pour) as port:
        assert post(Outward(LOOPBACK), f"http://127.0.0.1:{port}/") == 200
    # The kernel's buffers at both ends hold a few of them.
    assert taken < 32 * 1024**2


def test_a_server_that_never_answers_is_left_in_time() -> None:
    stop = threading.Event()
    with raw_server(lambda _: stop.wait(60) and None) as port:
        with pytest.raises(NoAnswer) as refused:
            post(Outward(LOOPBACK), f"http://127.0.0.1:{port}/", within_s=0.3)
        stop.set()
    assert refused.value.code == "timed-out"


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH_9.7\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200]
)
def test_what_is_no_http_is_no_answer(said: bytes) -> None:
    with raw_server(lambda connection: connection.sendall(said)) as port, pytest.raises(NoAnswer) as refused:
        post(Outward(LOOPBACK), f"http://127.0.0.1:{port}/")
    assert refused.value.code in ("answer-unreadable", "no-connection")
    assert "SSH" not in refused.value.message


def test_nobody_there_and_no_such_name_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NoAnswer) as refused:
        post(Outward(LOOPBACK), f"http://127.0.0.1:{port}/")
    assert refused.value.code == "no-connection"

    def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NoAnswer) as refused:
        post(Outward(LOOPBACK, resolve=unknown), "https://nowhere.test/")
    assert refused.value.code == "name-not-resolved"


def test_tls_is_for_the_name_and_checked(tmp_path: Path) -> None:
    known, server_side = certificate(tmp_path, "receiver.test")
    asked_for: list[str | None] = []
    server_side.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    names = Names(["127.0.0.1"])
    with receiver(tls=server_side) as server:
        trusted = Outward(LOOPBACK, resolve=names, tls=trusting(known))
        assert post(trusted, server.url(host="receiver.test")) == 204
        assert asked_for == ["receiver.test"]
        assert server.received[0].headers["host"] == f"receiver.test:{server.port}"
        for outward, host, why in [
            (trusted, "other.test", "Hostname mismatch"),
            (trusted, "127.0.0.1", "IP address mismatch"),
            (Outward(LOOPBACK, resolve=names), "receiver.test", "self-signed"),
        ]:
            with pytest.raises(NoAnswer, match=why) as refused:
                post(outward, server.url(host=host))
            assert refused.value.code == "tls-failed"
        assert len(server.received) == 1


def test_plain_http_at_a_tls_url_is_no_answer() -> None:
    with receiver() as server, pytest.raises(NoAnswer) as refused:
        post(Outward(LOOPBACK), f"https://127.0.0.1:{server.port}/")
    assert refused.value.code == "tls-failed"


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    for unusable in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ValidationFailed, match=unusable.name) as refused:
            trusting(unusable)
        assert refused.value.code == "ca-file-unusable"
