"""Clients of a server of pictures, in a process of their own: each sends one, waits for the answer, and sends again."""

import base64
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Answers that come before this are not counted: queues and batches have formed by then.
_WARM_UP_S = 0.5


@dataclass(frozen=True)
class Target:
    """Where to, and what is sent each time."""

    url: str
    path: str
    body: dict[str, Any]
    #: Of Fleet's jobs, which tell how they went.
    jobs: bool = True


@dataclass
class Load:
    wall_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    #: Answers, with those that are not counted.
    answers: int = 0
    #: Of jobs: seconds by stage.
    stages: list[dict[str, float]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.wall_s


def fleet_target(url: str, model: str, picture: Path, params: dict[str, Any]) -> Target:
    """Whoever wants the answer alone."""
    data = base64.b64encode(picture.read_bytes()).decode()
    return Target(url, "/inference", {"model_id": model, "image_base64": data, "config": params}, jobs=False)


def jobs_target(url: str, model: str, picture: Path, params: dict[str, Any]) -> Target:
    """Whoever wants a job of his own, and waits for it."""
    data = base64.b64encode(picture.read_bytes()).decode()
    return Target(url, "/api/v1/jobs", {"model": model, "inputs": [{"data": data}], "params": params})


def lit_target(url: str, picture: Path, params: dict[str, Any]) -> Target:
    """Params are a question, or nothing."""
    data = base64.b64encode(picture.read_bytes()).decode()
    return Target(url, "/predict", {"data": data, **params}, jobs=False)


def answered(target: Target) -> Any:
    """What it says to one request."""
    connection = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=300)
    connection.request("POST", target.path, json.dumps(target.body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{target.url} answered {answer.status}: {content[:300]!r}")
    return json.loads(content)


def loaded(target: Target, clients: int, seconds: float) -> Load:
    """At least one answer of each client is waited for."""
    body = json.dumps(target.body).encode()
    begins = time.perf_counter() + _WARM_UP_S
    ends = begins + seconds
    answers: list[tuple[float, float, dict[str, float]]] = []
    faults: list[str] = []
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=300)
        own: list[tuple[float, float, dict[str, float]]] = []
        while not faults and (not own or time.perf_counter() < ends):
            began = time.perf_counter()
            connection.request("POST", target.path, body, {"Content-Type": "application/json", "Prefer": "wait=60"})
            answer = connection.getresponse()
            content = answer.read()
            said = json.loads(content) if answer.status == 200 else {}
            if answer.status != 200 or (target.jobs and said["state"] != "succeeded"):
                faults.append(f"{target.url} answered {answer.status}: {content[:300]!r}")
                return
            own.append((began, time.perf_counter(), said["timings"] if target.jobs else {}))
        with lock:
            answers.extend(own)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise SystemExit(faults[0])
    # Where answers last longer than the measurement, all of them are it.
    long = all(ended >= ends or began < begins for began, ended, _ in answers)
    first, last = (min(one[0] for one in answers), max(one[1] for one in answers)) if long else (begins, ends)
    counted = [one for one in answers if first < one[1] <= last]
    seconds_each, stages = [ended - began for began, ended, _ in counted], [stages for _, _, stages in counted]
    return Load(last - first, seconds_each, len(answers), stages)
