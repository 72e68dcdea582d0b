"""Whoever gets webhooks, on a free loopback port: keeps what arrives, and answers as a test says."""

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from tests.support.waiting import eventually

Answer = tuple[int, dict[str, str]]


@dataclass(frozen=True)
class Received:
    """One try as it arrived; header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body))

    def verified(self, secret: str) -> Any:
        """As a receiver does it, with the library of the standard."""
        return Webhook(secret).verify(self.body, self.headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    #: More than a sender's tries at once: a full queue refuses connections.
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that hung up is what some tests are about."""


class Receiver:
    """`answers` are used up one after the other, and the last one stays; a function is called by the request."""

    def __init__(self, *answers: int | Answer | Callable[[], int | Answer], tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self._answers = list(answers) or [204]
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def wait_for(self, count: int) -> list[Received]:
        """What arrived, once that is so much."""
        eventually(lambda: len(self.received) >= count)
        return self.received

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, received: Received) -> Answer:
        with self._lock:
            self.received.append(received)
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        told = answer() if callable(answer) else answer
        return (told, {}) if isinstance(told, int) else told

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers["content-length"]))
                status, more = receiver._answer(Received(self.path, headers, body))
                with suppress(OSError):
                    self.send_response(status)
                    for name, value in {"Content-Length": "0", **more}.items():
                        self.send_header(name, value)
                    self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


@contextmanager
def receiver(
    *answers: int | Answer | Callable[[], int | Answer], tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    running = Receiver(*answers, tls=tls)
    try:
        yield running
    finally:
        running.close()


class Holding:
    """An answer that does not come until it is let go."""

    def __init__(self, status: int = 204) -> None:
        self._status = status
        self._free = threading.Event()

    def __call__(self) -> int:
        self._free.wait(60)
        return self._status

    def let_go(self) -> None:
        self._free.set()


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for this name that nobody knows yet: (the file to trust, what its server uses)."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", made, "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return made, context
