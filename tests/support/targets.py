"""Leads generated requests to things that exist: random ids would be met by 404 alone.

What a request is led to follows from the request itself, so that the same requests come again in the next run.
"""

import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemathesis import Case

from api.cards import KEEP_S
from fleet.contracts import Artifact
from fleet.errors import CorruptInput
from fleet.job_values import Ending
from tests.support.front_door import Door, worker_row

#: Receivers of webhooks, sound ones and others, none of which is reached.
_URLS = ("http://{}/hook", "https://{}/", "http://{}", "ftp://{}/", "http://u:p@{}/", "//{}", "http://[{}/", "{}", "")
#: Parameters of paths for which there is something.
KNOWN = frozenset({"job_id", "upload_id", "delivery_id", "name"})
_FILE = b"bytes of an artifact"
#: Bytes of an upload whose content is still to come.
_ANNOUNCED = 5


@dataclass(frozen=True)
class Targets:
    """`door` speaks for one tenant; it knows the models `text` and `volume`. Every target is made anew.

    Webhooks go to `nowhere`, a host and port of this machine at which nobody listens.
    """

    door: Door
    tenant: str
    nowhere: str

    def aim(self, case: Case[Any]) -> None:
        """Three in four requests get ids of things that exist; and see `fit`."""
        draw = _draw(case)
        if draw % 4 or streams(case):
            kinds = self._kinds(case)
            known = {name: kinds[name](draw // 4) for name in case.path_parameters if name in kinds}
            if known:
                case.path_parameters = {**case.path_parameters, **known}
        self.fit(case)

    def fit(self, case: Case[Any]) -> None:
        """Most submits become ones that a model takes, some contents what was announced; no webhook leaves us."""
        draw = _draw(case) // 4
        if case.operation.label == "POST /api/v1/jobs" and isinstance(case.body, dict):
            case.body = {**case.body, **self._job_fields(case.body, draw)}
        is_json = case.media_type == "application/json" and isinstance(case.body, dict)
        if re.fullmatch(r"POST /api/v1/inference/\w+", case.operation.label) and is_json:
            case.body = {**case.body, **self._picture_fields(case.body, draw)}
            self._enliven()
            if draw % 20:
                # Without it predict waits for an answer that nobody will give.
                case.headers = {**(case.headers or {}), "Prefer": "wait=0"}
        if re.fullmatch(r"POST (/api/v1)?/models/\w+", case.operation.label) and is_json:
            case.body = {**case.body, **self._model_fields(case.body, draw)}
        if case.operation.label.endswith("/content") and isinstance(case.body, bytes) and draw % 3 == 0:
            case.body = _FILE[:_ANNOUNCED]
        _aim_headers(case, draw)

    def _enliven(self) -> None:
        """A worker, for some seconds: who waits for an answer is refused while none lives."""
        alive = self.door.core.catalogue.workers()
        self.door.core.catalogue.announce_worker(worker_row(models=["text/1", "volume/1"]))
        if not alive:
            # Until nobody believes any more that there is none.
            time.sleep(KEEP_S)

    def _kinds(self, case: Case[Any]) -> dict[str, Callable[[int], str]]:
        jobs = self._ended if streams(case) else self._ended + self._under_way
        if "name" in case.path_parameters:
            # Files are what such a job has.
            jobs = (self.succeeded,)
        return {
            "job_id": lambda draw: jobs[draw % len(jobs)](),
            "upload_id": lambda draw: self._uploads[draw % 3](),
            "delivery_id": lambda _: self.delivery(),
            "name": lambda draw: ("mask.bin", "text", "volume")[draw % 3],
            **({"version": lambda _: "1"} if case.method == "GET" else {}),
        }

    @property
    def _ended(self) -> tuple[Callable[[], str], ...]:
        return self.succeeded, self.failed, self.cancelled

    @property
    def _under_way(self) -> tuple[Callable[[], str], ...]:
        return self.queued, self.running

    @property
    def _uploads(self) -> tuple[Callable[[], str], ...]:
        return self.complete_upload, lambda: self._ticket(_ANNOUNCED), lambda: self._ticket(65 * 1024**2)

    def queued(self) -> str:
        return str(self.door.accepted()["id"])

    def running(self) -> str:
        job_id = self.queued()
        assert self.door.core.jobs.claim(self.door.id(job_id), "test-worker", 30.0)
        return job_id

    def succeeded(self, **body: Any) -> str:
        job_id = str(self.door.accepted(**body)["id"])
        key = f"results/{job_id}/1/mask.bin"
        stored = self.door.core.objects.put_bytes(key, _FILE, media_type="application/octet-stream", name="mask.bin")
        self.door.run(job_id, artifacts=[Artifact(name="mask.bin", object=stored)])
        return job_id

    def failed(self) -> str:
        claim = self.door.core.jobs.claim(self.door.id(job_id := self.queued()), "test-worker", 30.0)
        assert claim is not None
        assert self.door.core.jobs.fail(claim.job, CorruptInput("cut off"), Ending({}, None))
        return job_id

    def cancelled(self) -> str:
        job_id = self.queued()
        self.door.core.jobs.cancel(self.door.id(job_id), self.tenant)
        return job_id

    def delivery(self) -> str:
        """Of a webhook that is due, at an address where nobody is."""
        self.succeeded(callback={"url": f"http://{self.nowhere}/hook"})
        (newest, *_) = self.door.http.get("/api/v1/webhooks/deliveries", params={"limit": 1}).json()["deliveries"]
        return str(newest["id"])

    def complete_upload(self) -> str:
        answer = self.door.http.post("/api/v1/uploads", content=_FILE, headers={"content-type": "image/x-any"})
        return str(answer.json()["id"])

    def _ticket(self, size: int) -> str:
        return str(self.door.http.post("/api/v1/uploads", json={"name": "a", "size": size}).json()["id"])

    def _job_fields(self, body: dict[str, Any], draw: int) -> dict[str, Any]:
        """Of the fields that were generated in the right type, those that few values fit."""
        fitting: dict[str, tuple[type, Any]] = {
            "model": (str, ("text", "volume")[draw % 2]),
            "version": (int, 1),
            "task": (str, None),
            "params": (dict, {}),
            "inputs": (list, [{"data": "aGVsbG8="} if draw % 3 else {"upload": self.complete_upload()}]),
        }
        fields = {
            name: value for name, (kind, value) in fitting.items() if draw % 4 and isinstance(body.get(name), kind)
        }
        if body.get("when_no_worker") == "refuse":
            # Always: no worker lives here, and the 503 that this rightly brings is taken for a fault.
            fields["when_no_worker"] = "wait"
        callback = body.get("callback")
        if isinstance(callback, dict) and isinstance(callback.get("url"), str):
            # Always: no generated address may be called.
            fields["callback"] = {**callback, "url": _URLS[draw % len(_URLS)].format(self.nowhere)}
        return fields

    def _picture_fields(self, body: dict[str, Any], draw: int) -> dict[str, Any]:
        """The same; of what nothing can come here, such as a model to be brought in, nothing is left."""
        fitting: dict[str, tuple[type, Any]] = {
            "model_id": (str, ("text", "volume")[draw % 2]),
            "task": (str, ("text-embedding", "segmentation")[draw % 2]),
            "model_type": (str, None),
            "model_source": (str, "local"),
            "class_mapping": (dict | list, {}),
            "prompt": (str, None),
            "config": (dict, {}),
            "image": (str | dict, {"data": "aGVsbG8="}),
            "images": (list, None),
            "image_url": (str, None),
            "image_base64": (str, None),
        }
        fields = {
            name: value for name, (kind, value) in fitting.items() if draw % 4 and isinstance(body.get(name), kind)
        }
        if fields:
            fields |= {"model_id": fitting["model_id"][1], "image": {"data": "aGVsbG8="}}
        # Always: no worker would fetch it, and the 503 that this rightly brings is taken for a fault.
        return fields | ({"checkpoint_url": None} if isinstance(body.get("checkpoint_url"), str) else {})

    def _model_fields(self, body: dict[str, Any], draw: int) -> dict[str, Any]:
        # The next version, since the same request made again would be refused.
        fields: dict[str, Any] = {"version": None} if isinstance(body.get("version"), int) else {}
        if draw % 4 and isinstance(body.get("files"), list):
            fields["files"] = [{"upload": self.complete_upload(), "path": "model.onnx"}]
        return fields


def _draw(case: Case[Any]) -> int:
    return zlib.crc32(repr(case).encode("utf-8", "surrogatepass"))


def streams(case: Case[Any]) -> bool:
    """Whether the answer may be one that only ends when a job does."""
    responses = case.operation.definition.raw.get("responses", {}).values()
    return any("text/event-stream" in response.get("content", {}) for response in responses)


def _aim_headers(case: Case[Any], draw: int) -> None:
    headers = dict(case.headers or {})
    if "Idempotency-Key" in headers and draw % 4:
        headers["Idempotency-Key"] = f"key-{draw % 50}"
    if "Prefer" in headers:
        headers["Prefer"] = "wait=1" if draw % 20 == 0 else f"wait=0, {headers['Prefer']}"
    if headers != dict(case.headers or {}):
        case.headers.update(headers)
