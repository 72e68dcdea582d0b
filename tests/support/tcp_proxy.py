"""A TCP proxy on loopback that can be cut, silenced and mended: a server or link that fails for one process alone.

mend()     as at the start: what is sent arrives
cut()      every connection ends and new ones are refused: the server is down
swallow()  sockets stay open and nothing arrives; new ones open and hear nothing: the network is gone
release()  the network is back: what waited arrives, as TCP would have sent it again
strand()   the connections of now stay open and silent for ever, the server has forgotten them; new ones work
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class _Pair:
    """A connection of a client and the one to the server behind it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        #: Set while what is sent on one side may leave on the other.
        self.flows = threading.Event()
        self.stranded = False
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def end(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.flows.set()

    def strand(self) -> None:
        self.stranded = True
        self.flows.clear()
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Proxy:
    """Forwards `port` to a port of the same machine."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listening: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._open: set[_Pair] = set()
        self._joins: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._silent = False
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """After `cut`: accepts connections again, on the same port."""
        if self._listening is not None:
            return
        listening = socket.create_server(("127.0.0.1", self.port))
        self._listening, self.port = listening, listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(listening,), daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """Ends every connection and refuses new ones. Safe to call twice."""
        if self._listening is not None:
            # A blocked accept only returns when the socket is shut down.
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        if self._accepting is not None:
            self._accepting.join()
            self._accepting = None
        with self._lock:
            self._silent = False
            pairs, joins = list(self._open), list(self._joins)
        for pair in pairs:
            pair.end()
        for join in joins:
            join.join()

    def drop(self) -> None:
        """Ends every connection and goes on accepting new ones."""
        with self._lock:
            for pair in self._open:
                pair.end()

    def swallow(self) -> None:
        with self._lock:
            self._silent = True
            for pair in self._open:
                pair.flows.clear()

    def release(self) -> None:
        with self._lock:
            self._silent = False
            for pair in self._open:
                if not pair.stranded:
                    pair.flows.set()

    def strand(self) -> int:
        """How many connections there were."""
        with self._lock:
            for pair in self._open:
                pair.strand()
            return len(self._open)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                # The server itself is down: as if it had answered the connection.
                client.close()
                continue
            pair = _Pair(client, server)
            join = threading.Thread(target=self._join, args=(pair,), daemon=True)
            with self._lock:
                self._open.add(pair)
                self._joins.add(join)
                if not self._silent:
                    pair.flows.set()
            join.start()

    def _join(self, pair: _Pair) -> None:
        back = threading.Thread(target=self._forward, args=(pair, pair.server, pair.client), daemon=True)
        back.start()
        self._forward(pair, pair.client, pair.server)
        back.join()
        pair.close()
        with self._lock:
            self._open.discard(pair)
            self._joins.discard(threading.current_thread())

    @staticmethod
    def _forward(pair: _Pair, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                pair.flows.wait()
                target.sendall(data)
        # The end of a connection is a packet, too.
        pair.flows.wait()
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.cut()
