"""A small server that speaks docs/reference/http.md and fails on demand, for tests of the client and of the command.

A real fleet cannot be told to drop the third connection; this one can. It runs no jobs: a test writes the states that
a job passes through. The real API is met in tests/acceptance.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: A body in pieces is sent as they come; it may raise `Drop` where the connection is to break.
Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]
JOB_ID = "01990000-0000-7000-8000-000000000001"


class Drop(Exception):
    """The connection is closed, without an answer or in the middle of it."""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; header names are in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Origin:
    """One HTTP server on a free loopback port that keeps what it saw."""

    answer: Callable[[Seen], Answer]
    seen: list[Seen] = field(default_factory=list)
    #: (method, start of the path, what to do instead), used up one by one.
    faults: list[tuple[str, str, Answer | type[Drop]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, method: str, path: str, *faults: Answer | type[Drop]) -> None:
        self.faults += [(method, path, fault) for fault in faults]

    def requests(self, method: str, path: str = "/") -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and seen.path.startswith(path)]

    def respond(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        for position, (method, path, fault) in enumerate(self.faults):
            if method == seen.method and seen.path.startswith(path):
                del self.faults[position]
                if isinstance(fault, type):
                    raise fault
                return fault
        return self.answer(seen)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class ProtocolServer:
    """The API at `url`, and an object store on another origin."""

    def __init__(self, *, proxy: bool = False, part_size: int | None = None, events: bool = True) -> None:
        self.proxy = proxy
        #: False is a server from before there were event streams.
        self.events = events
        #: After this many events a stream breaks off.
        self.events_per_stream: int | None = None
        #: How many events were told, over all streams.
        self.told = 0
        self._last_told: dict[str, Any] | None = None
        self._closing = threading.Event()
        self.part_size = part_size
        #: What GET answers and events tell, one after the other; the last one stays.
        self.states: list[dict[str, Any]] = []
        self.artifacts: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.submitted: dict[str, dict[str, Any]] = {}
        self.models: list[dict[str, Any]] = []
        self.listed: list[dict[str, Any]] = []
        self.api = Origin(self._api)
        self.store = Origin(self._store)

    @property
    def url(self) -> str:
        return self.api.url

    def __enter__(self) -> "ProtocolServer":
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self.api.stop()
        self.store.stop()

    def job(self, state: str = "queued", **fields: Any) -> dict[str, Any]:
        """A job as the reference describes it, with one field that no client knows yet."""
        return {
            "id": JOB_ID,
            "task": "segmentation",
            "model": "brain-extraction",
            "version": 1,
            "state": state,
            "stage": None,
            "progress": 0.0,
            "labels": {},
            "result": None,
            "artifacts": [],
            "error": None,
            "timings": {},
            "created_at": "2026-01-01T00:00:00Z",
            "field_of_tomorrow": {"nested": True},
            **fields,
        }

    def succeeded(self, **artifacts: bytes) -> dict[str, Any]:
        """A job that succeeded with these files; `__` in a name stands for a full stop."""
        self.artifacts.update({name.replace("__", "."): data for name, data in artifacts.items()})
        described = [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "media_type": "image/png"}
            for name, data in self.artifacts.items()
        ]
        return self.job("succeeded", progress=1.0, artifacts=described, result={"labels": []})

    def _api(self, seen: Seen) -> Answer:
        parts = seen.path.removeprefix("/api/v1/").split("/")
        match seen.method, parts:
            case "POST", ["uploads"]:
                return self._ticket(seen.json)
            case "PUT", ["uploads", upload_id, "content"]:
                return self._stored(f"{upload_id}/0", seen)
            case "GET", ["uploads", upload_id]:
                return ok(self.uploads[upload_id])
            case "POST", ["uploads", upload_id, "complete"]:
                return self._joined(upload_id, seen.json["parts"])
            case "POST", ["jobs"]:
                return self._submitted(seen)
            case "GET", ["jobs"]:
                return self._page(seen)
            case "GET", ["jobs", _, "artifacts", name]:
                return self._artifact(name)
            case "GET", ["jobs", _, "events"] if self.events:
                return 200, {"content-type": "text/event-stream"}, self._told(seen)
            case "GET", ["jobs", _]:
                return ok(self._state())
            case "POST", ["jobs", _, "cancel"]:
                self.states[:] = [self.job("cancelled")]
                return ok(self.states[0])
            case "POST", ["jobs", _, "retry"]:
                self.states[:] = [self.job("queued", retries=1)]
                return 202, {"content-type": "application/json"}, json.dumps(self.states[0]).encode()
            case "DELETE", ["jobs", _]:
                ended = self.states[0]["state"] not in ("queued", "running")
                return 204 if ended else 202, {}, b""
            case "GET", ["models"]:
                return ok({"models": self.models})
            case "GET", ["models", name]:
                found = [model for model in self.models if model["name"] == name]
                return ok(found[0]) if found else problem(404, "model-not-found", f"there is no model {name}")
        return problem(404, "not-found", f"there is no {seen.path}")

    def _store(self, seen: Seen) -> Answer:
        if seen.method == "PUT":
            return self._stored(seen.path.removeprefix("/bucket/"), seen)
        return 200, {"content-type": "application/octet-stream"}, self.artifacts[seen.path.removeprefix("/bucket/")]

    def _state(self) -> dict[str, Any]:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def _told(self, seen: Seen) -> Iterator[bytes]:
        """The states as events; the stream stays open for as long as the last one of them has not ended."""
        yield b"retry: 10\n\n"
        told = 0
        state = self._last_told if seen.headers.get("last-event-id") == str(self.told) else None
        while told != self.events_per_stream:
            if self.states[0] is not state:
                state = self._last_told = self._state()
                told += 1
                self.told += 1
                yield event(self.told, state)
                if state["state"] in ("succeeded", "failed", "cancelled", "expired"):
                    return
            elif self._closing.wait(0.1):
                raise Drop
            else:
                yield b": still there\n\n"
        raise Drop

    def _ticket(self, asked: dict[str, Any]) -> Answer:
        upload_id = f"upload-{len(self.uploads) + 1}"
        ticket: dict[str, Any] = {"id": upload_id, "state": "pending", "method": "PUT", "headers": {}, "parts": None}
        if self.proxy:
            # A server behind a tunnel believes to have another name.
            ticket["url"] = f"http://fleet.invalid:1/api/v1/uploads/{upload_id}/content"
        elif self.part_size is None:
            ticket["url"] = f"{self.store.url}/bucket/{upload_id}/0?X-Amz-Signature=secret"
        else:
            ticket["url"] = None
            ticket["parts"] = [
                {
                    "number": number,
                    "offset": offset,
                    "size": min(self.part_size, asked["size"] - offset),
                    "url": f"{self.store.url}/bucket/{upload_id}/{number}?X-Amz-Signature=secret",
                }
                for number, offset in enumerate(range(0, asked["size"], self.part_size), start=1)
            ]
        self.uploads[upload_id] = ticket
        return 201, {}, json.dumps(ticket).encode()

    def _stored(self, key: str, seen: Seen) -> Answer:
        self.objects[key] = seen.body
        return 200, {"etag": f'"{hashlib.md5(seen.body).hexdigest()}"'}, b"{}"

    def _joined(self, upload_id: str, parts: list[dict[str, Any]]) -> Answer:
        slices = [self.objects.pop(f"{upload_id}/{part['number']}") for part in parts]
        for part, data in zip(parts, slices, strict=True):
            if part["etag"].strip('"') != hashlib.md5(data).hexdigest():
                return problem(404, "object-not-found", "no such part")
        self.objects[f"{upload_id}/0"] = b"".join(slices)
        self.uploads[upload_id]["state"] = "complete"
        return ok(self.uploads[upload_id])

    def _submitted(self, seen: Seen) -> Answer:
        key = seen.headers["idempotency-key"]
        replayed = key in self.submitted
        self.submitted.setdefault(key, seen.json)
        headers = {"location": f"/api/v1/jobs/{JOB_ID}"} | ({"idempotency-replayed": "true"} if replayed else {})
        return 202, headers, json.dumps(self.states[0] if self.states else self.job()).encode()

    def _page(self, seen: Seen) -> Answer:
        limit, start = int(seen.query["limit"][0]), int(seen.query.get("cursor", ["0"])[0])
        following = start + limit
        cursor = str(following) if following < len(self.listed) else None
        return ok({"jobs": self.listed[start:following], "next_cursor": cursor})

    def _artifact(self, name: str) -> Answer:
        if self.proxy:
            return 200, {"content-type": "application/octet-stream"}, self.artifacts[name]
        return 307, {"location": f"{self.store.url}/bucket/{name}?X-Amz-Signature=secret"}, b""


def ok(value: Any) -> Answer:
    return 200, {"content-type": "application/json"}, json.dumps(value).encode()


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    body = {"title": code, "status": status, "detail": detail, "code": code, **more}
    return status, {"content-type": "application/problem+json", **(headers or {})}, json.dumps(body).encode()


def event(number: int, state: dict[str, Any]) -> bytes:
    """One event of a job's stream."""
    return f"id: {number}\nevent: job.{state['state']}\ndata: {json.dumps(state)}\n\n".encode()


def decoded(given: dict[str, Any]) -> bytes:
    """The bytes of an inline input."""
    return base64.b64decode(given["data"])


def _handler(origin: Origin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            split = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                seen = Seen(self.command, split.path, parse_qs(split.query), headers, body)
                status, answered, content = origin.respond(seen)
            except Drop:
                self.close_connection = True
                return
            if isinstance(content, bytes):
                framing = {"content-length": str(len(content))}
            else:
                framing = {"transfer-encoding": "chunked"}
            self.send_response(status)
            for name, value in {**framing, "x-request-id": "request-1", **answered}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):
                if isinstance(content, bytes):
                    self.wfile.write(content)
                else:
                    self._write_pieces(content)
            if "content-length" in answered:
                self.close_connection = True

        def _write_pieces(self, pieces: Iterator[bytes]) -> None:
            self.close_connection = True
            try:
                for piece in pieces:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            except Drop:
                return
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, *args: Any) -> None:
            pass

    return Handler
