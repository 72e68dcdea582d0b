"""Clients of an embedding server, in a process of their own: each asks, waits for its answer, and asks again."""

import base64
import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

#: Answers that come before this are not counted: queues and batches have formed by then.
_WARM_UP_S = 1.0


@dataclass(frozen=True)
class Target:
    """A server that speaks OpenAI's dialect."""

    url: str
    path: str
    model: str


@dataclass(frozen=True)
class Crowd:
    """So many clients, each with so many texts in a request."""

    clients: int
    texts: int

    def __str__(self) -> str:
        return f"{self.clients} × {self.texts}"


@dataclass
class Load:
    """What the clients saw. `texts` were answered within `wall_s`; `asked` are those of the whole time."""

    wall_s: float = 0.0
    texts: int = 0
    asked: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.texts / self.wall_s


def loaded(target: Target, texts: Sequence[str], crowd: Crowd, seconds: float) -> Load:
    """At least one answer of each client is waited for, however long it takes."""
    load, lock = Load(), threading.Lock()
    begins = time.perf_counter() + _WARM_UP_S
    ends = begins + seconds
    answers: list[tuple[float, float]] = []

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=300)
        at = number * 37
        own: list[tuple[float, float]] = []
        while not own or time.perf_counter() < ends:
            given = [texts[(at + place) % len(texts)] for place in range(crowd.texts)]
            at += crowd.texts
            began = time.perf_counter()
            ask(connection, target, given)
            own.append((began, time.perf_counter()))
        with lock:
            answers.extend(own)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(crowd.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.asked = len(answers) * crowd.texts
    # Where requests last longer than the measurement, all of them are it.
    long = all(ended >= ends or began < begins for began, ended in answers)
    first, last = (min(began for began, _ in answers), max(ended for _, ended in answers)) if long else (begins, ends)
    counted = [(began, ended) for began, ended in answers if first < ended <= last]
    load.wall_s, load.texts = last - first, len(counted) * crowd.texts
    load.seconds = [ended - began for began, ended in counted]
    return load


def ask(connection: http.client.HTTPConnection, target: Target, texts: Sequence[str]) -> int:
    """Vectors that came."""
    body = json.dumps({"model": target.model, "input": list(texts), "encoding_format": "base64"})
    connection.request("POST", target.path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{target.url} answered {answer.status}: {content[:300]!r}")
    rows = [base64.b64decode(item["embedding"]) for item in json.loads(content)["data"]]
    if len(rows) != len(texts):
        raise SystemExit(f"{len(rows)} vectors came for {len(texts)} texts")
    return len(rows)
