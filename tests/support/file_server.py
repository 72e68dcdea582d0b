"""A server of files that does what the internet does: ranges, redirects, connections that break, refusals.

`Site` serves any path; `hub`, `github` and `wheel_index` lay out the paths of a Hugging Face hub, of GitHub's API and
of an index of wheels.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Seen:
    path: str
    headers: dict[str, str]


@dataclass
class Site:
    """`files` are served by path, `answers` (status, headers, body) come first, `faults` before both, each once."""

    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    #: (path, after how many bytes the connection breaks)
    breaks: list[tuple[str, int]] = field(default_factory=list)
    faults: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    #: The token that every request must bring; empty: none.
    token: str = ""
    #: Called by path in the place of `files`.
    etag: Callable[[bytes], str] = lambda content: f'"{hashlib.md5(content).hexdigest()}"'

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.partition("?")[0] == path]

    def say(self, path: str, told: Any) -> None:
        self.answers[path] = (200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def redirect(self, path: str, to: str) -> None:
        self.answers[path] = (302, {"Location": to}, b"")

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            site.seen.append(Seen(self.path, headers))
            path = unquote(self.path.partition("?")[0])
            with suppress(ConnectionError):
                self._answer(path, headers)

        def _answer(self, path: str, headers: dict[str, str]) -> None:
            for position, (wanted, status, more) in enumerate(site.faults):
                if wanted == path:
                    del site.faults[position]
                    return self._send(status, more, b"")
            if site.token and headers.get("authorization") != f"Bearer {site.token}":
                return self._send(401, {}, b"")
            if path in site.answers:
                return self._send(*site.answers[path])
            if path not in site.files:
                return self._send(404, {}, b"")
            content = site.files[path]
            told = {"ETag": site.etag(content), "Accept-Ranges": "bytes"}
            begin = int(headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            if begin and headers.get("if-range", told["ETag"]) == told["ETag"]:
                if begin >= len(content):
                    return self._send(416, {}, b"")
                told["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
                return self._send(206, told, content[begin:], path)
            return self._send(200, told, content, path)

        def _send(self, status: int, headers: dict[str, str], body: bytes, path: str = "") -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for position, (broken, after) in enumerate(site.breaks):
                if broken == path:
                    del site.breaks[position]
                    self.close_connection = True
                    self.wfile.write(body[:after])
                    return
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def site(**files: bytes) -> Iterator[Site]:
    running = Site({f"/{path}": content for path, content in files.items()})
    try:
        yield running
    finally:
        running.close()


def hub(
    on: Site, repository: str, files: dict[str, bytes], *, lfs: tuple[str, ...] = (), revision: str = "main"
) -> None:
    """A repository of a hub: its list and its files. Those in `lfs` come with their SHA-256."""
    siblings: list[dict[str, Any]] = []
    for path, content in files.items():
        entry: dict[str, Any] = {"rfilename": path, "size": len(content)}
        if path in lfs:
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        siblings.append(entry)
        on.files[f"/{repository}/resolve/{COMMIT}/{path}"] = content
        on.files[f"/{repository}/resolve/main/{path}"] = content
    on.say(f"/api/models/{repository}/revision/main", {"sha": COMMIT, "siblings": siblings})


def github(on: Site, repository: str, files: dict[str, bytes]) -> None:
    """A repository behind GitHub's REST API: its newest commit, its folders and its files."""
    root = f"/repos/{repository}"
    for ref in ("HEAD", "v1"):
        on.answers[f"{root}/commits/{ref}"] = (200, {}, COMMIT.encode())
    folders: dict[str, list[dict[str, Any]]] = {}
    for path, content in files.items():
        entry = {"type": "file", "path": path, "size": len(content), "download_url": f"{on.url}/lfs/{path}"}
        parts = path.split("/")
        for depth in range(len(parts)):
            folder = "/".join(parts[:depth])
            inner = entry if depth == len(parts) - 1 else {"type": "dir", "path": "/".join(parts[: depth + 1])}
            if inner not in folders.setdefault(folder, []):
                folders[folder].append(inner)
        on.files[f"{root}/contents/{path}"] = content
    for folder, entries in folders.items():
        on.say(f"{root}/contents/{folder}", entries)
