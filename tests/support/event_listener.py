"""Somebody who follows a job by its raw event stream, in a thread of its own, and keeps what arrives."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.waiting import eventually


@dataclass(frozen=True)
class Heard:
    """One event."""

    id: str | None
    name: str
    data: dict[str, Any]


class Listener:
    """Opens the stream when it is made; `leave` closes it from this side."""

    def __init__(self, url: str, job_id: str, seen: object = None, headers: dict[str, str] | None = None) -> None:
        self.events: list[Heard] = []
        self.heartbeats = 0
        self.retry_ms: int | None = None
        self.answer: httpx.Response | None = None
        #: Whether the stream ended as it should, and what broke it otherwise.
        self.ended = False
        self.broken: Exception | None = None
        self._url = f"{url}/api/v1/jobs/{job_id}/events"
        self._headers = dict(headers or {}) | ({} if seen is None else {"last-event-id": str(seen)})
        self._leaving = False
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def ids(self) -> list[int]:
        return [int(event.id) for event in self.events if event.id is not None]

    def hears(self, name: str) -> Heard:
        """The last event, once it has this name."""
        eventually(lambda: (self.events and self.events[-1].name == name) or self._over)
        assert self.names[-1:] == [name], (self.names, self.broken)
        return self.events[-1]

    def opens(self) -> None:
        """Returns once the stream is open: what happens from now on is heard."""
        eventually(lambda: self.retry_ms is not None or self._over)
        assert self.retry_ms is not None, (self.answer, self.broken)

    def finishes(self) -> None:
        """Returns once the server has ended the stream, in order."""
        eventually(lambda: self._over)
        assert self.ended, self.broken

    def leave(self) -> None:
        """Ends with the next byte that arrives."""
        self._leaving = True

    def join(self) -> None:
        self._thread.join()

    @property
    def _over(self) -> bool:
        return self.ended or self.broken is not None

    def _listen(self) -> None:
        try:
            with (
                httpx.Client(timeout=60, trust_env=False) as http,
                http.stream("GET", self._url, headers=self._headers) as self.answer,
            ):
                if self.answer.status_code != 200:
                    self.answer.read()
                    self.ended = True
                    return
                self._read(self.answer)
        except Exception as error:  # noqa: BLE001 (whoever looks at it decides)
            self.broken = error

    def _read(self, answer: httpx.Response) -> None:
        fields: dict[str, str] = {}
        for line in _lines(answer):
            if self._leaving:
                return
            name, _, value = line.partition(": ")
            if line == ": still there":
                self.heartbeats += 1
            elif line:
                assert name in ("id", "event", "data", "retry"), line
                fields[name] = value
            elif "data" in fields:
                self.events.append(Heard(fields.get("id"), fields["event"], json.loads(fields["data"])))
                fields = {}
            elif "retry" in fields:
                self.retry_ms = int(fields.pop("retry"))
        self.ended = True


def _lines(answer: httpx.Response) -> Iterator[str]:
    """Only `\\n` ends a line, as our server writes it: JSON may hold other separators."""
    rest = b""
    for chunk in answer.iter_raw():
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in whole)


@contextmanager
def listening(url: str, job_id: str, seen: object = None, **headers: str) -> Iterator[Listener]:
    """A listener who is gone when the block is left; the server must still be there, with short heartbeats, or the job
    have ended.
    """
    listener = Listener(url, job_id, seen, headers)
    try:
        yield listener
    finally:
        listener.leave()
        listener.join()
