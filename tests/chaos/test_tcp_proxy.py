"""The proxy that the other tests break links with: each of its ways to fail is what it says."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.tcp_proxy import Proxy, proxy_to


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of a server that says everything back."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=say_back, args=(connection,), daemon=True).start()

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        with proxy_to(listening.getsockname()[1]) as opened:
            yield opened
        # A blocked accept only returns when the socket is shut down.
        listening.shutdown(socket.SHUT_RDWR)
        server.join()


def say_back(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(1024):
            connection.sendall(data)


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def is_silent(client: socket.socket) -> bool:
    client.settimeout(0.3)
    try:
        return client.recv(10) == b"never"
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)


def test_swallowed_packets_arrive_when_the_link_is_back(proxy: Proxy) -> None:
    with connected(proxy) as client:
        proxy.swallow()
        client.sendall(b"hello")
        assert is_silent(client)
        proxy.release()
        assert client.recv(10) == b"hello"


def test_new_connections_of_a_swallowing_link_open_and_hear_nothing_until_it_is_back(proxy: Proxy) -> None:
    proxy.swallow()
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert is_silent(client)
        proxy.release()
        assert client.recv(10) == b"hello"


def test_the_end_of_a_connection_is_swallowed_too(proxy: Proxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        proxy.swallow()
        client.shutdown(socket.SHUT_WR)
        assert is_silent(client)
        proxy.release()
        assert client.recv(10) == b""


def test_stranded_connections_stay_open_and_silent_and_new_ones_work(proxy: Proxy) -> None:
    with connected(proxy) as old, connected(proxy) as new_later:
        old.sendall(b"a")
        new_later.sendall(b"a")
        assert old.recv(10) == new_later.recv(10) == b"a"
        assert proxy.strand() == 2
        old.sendall(b"hello")
        proxy.release()
        assert is_silent(old)
        with connected(proxy) as new:
            new.sendall(b"hello")
            assert new.recv(10) == b"hello"


def test_a_cut_ends_silent_connections_and_a_mended_link_works(proxy: Proxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        proxy.swallow()
        proxy.cut()
        assert client.recv(10) == b""
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
    proxy.mend()
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"


def test_a_server_that_was_down_is_found_again() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    with proxy_to(port) as proxy:
        with connected(proxy) as client:
            assert client.recv(10) == b""
        with closing(socket.create_server(("127.0.0.1", port))) as back, connected(proxy) as client:
            connection, _ = back.accept()
            with connection:
                client.sendall(b"hello")
                assert connection.recv(10) == b"hello"
