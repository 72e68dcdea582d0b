"""A real front door on a free loopback port: uvicorn in a thread of this process, met through httpx."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import uvicorn

from api.__main__ import Server
from api.app import create_app
from api.services import Services
from fleet.card import Card
from fleet.catalogue import WorkerRow
from fleet.contracts import Job, Lane, MediaKind, Pool, ResultKind
from fleet.job_values import Ending
from fleet.settings import Settings
from tests.support.waiting import eventually

PARAMS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "format": {"enum": ["nifti", "nrrd"], "default": "nifti"},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "preview": {"type": "boolean"},
    },
}


@dataclass(frozen=True)
class Door:
    """`http` speaks to the API; `core` is what it is made of, for looking behind it."""

    http: httpx.Client
    core: Services
    url: str

    def announce(self, *cards: Card) -> None:
        self.core.catalogue.announce_cards(cards, "test-worker")

    def submit(self, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """A job of the model `text`, unless the body says otherwise."""
        request = {"model": "text", "inputs": [{"data": "aGVsbG8="}], **body}
        return self.http.post("/api/v1/jobs", json=request, headers=headers)

    def accepted(self, **body: Any) -> dict[str, Any]:
        answer = self.submit(**body)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def id(self, text: str) -> UUID:
        return UUID(text)

    def run(self, job_id: str, result: dict[str, Any] | None = None, **more: Any) -> Job:
        """Does what a worker does with a job: claim, finish, tell."""
        claim = self.core.jobs.claim(self.id(job_id), "test-worker", 30.0)
        assert claim is not None
        job = self.core.jobs.finish(
            claim.job,
            result={"text": "done"} if result is None else result,
            artifacts=more.get("artifacts", []),
            inputs=claim.job.inputs,
            ending=Ending({"infer": 0.1}, None),
        )
        assert job is not None
        if more.get("tell", True):
            self.core.broker.tell_ended(job.id, job.state)
        return job


def card(name: str = "text", version: int = 1, **changes: Any) -> Card:
    values: dict[str, Any] = {
        "name": name,
        "version": version,
        "task": "text-embedding",
        "accepts": MediaKind.TEXT,
        "returns": ResultKind.JSON,
        "params_schema": PARAMS,
        "lane": Lane.INTERACTIVE,
        "size_bytes": 1000,
        "sha256": "a" * 64,
    }
    return Card(**(values | changes))


def worker_row(name: str = "w1", pool: Pool = Pool.CPU, **changes: Any) -> WorkerRow:
    values: dict[str, Any] = {
        "name": name,
        "host": "here",
        "pid": 1,
        "pool": pool,
        "lanes": [Lane.INTERACTIVE, Lane.BULK],
        "device": "CPU",
        "provider": "CPUExecutionProvider",
        "simulated": False,
        "concurrency": 2,
        "models": ["text/1"],
        "loaded": [],
        "running": 0,
        "rss_bytes": None,
        "draining": False,
    }
    return WorkerRow(**(values | changes))


@contextmanager
def front_door(settings: Settings, **changes: Any) -> Iterator[Door]:
    """`changes` are other settings; without `api_port` the port is a free one."""
    app = create_app(settings.model_copy(update=changes))
    port = changes.get("api_port", 0)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="on")
    server = Server(config, app.state.services.waiters)
    thread = threading.Thread(target=server.run, name="front-door")
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            yield Door(http, app.state.services, url)
    finally:
        server.should_exit = True
        thread.join()
