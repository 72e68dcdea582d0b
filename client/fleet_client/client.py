"""The way in: `Client` uploads, submits, and finds jobs and models."""

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from fleet_client import uploads
from fleet_client.embeddings import EmbeddingCalls
from fleet_client.errors import InvalidRequest, TooLarge
from fleet_client.fleet_status import FleetStatus, QueuesStatus
from fleet_client.inputs import Input, Inputs
from fleet_client.job import Job
from fleet_client.models import ModelCalls
from fleet_client.problems import read
from fleet_client.records import Callback, JobPage, JobRecord, Upload
from fleet_client.replay import is_same_request
from fleet_client.retry import Retries
from fleet_client.sources import Sendable, open_source
from fleet_client.transport import Store, Transport, Wires
from fleet_client.uploads import OnTransfer
from fleet_client.webhooks import WebhookDelivery, WebhookPage, WebhookSecrets

VERSION = "0.1.0"


class Client(ModelCalls, EmbeddingCalls):
    """A Fleet server. Thread-safe; close it, or use it in a `with` block.

    `timeout` is how long one answer may take, in seconds, on top of what the server holds it on purpose. Lost
    connections, 429 and 502-504 are tried again `retries` times with growing pauses, and never make a second job.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int | Retries = 5,
    ) -> None:
        patience = retries if isinstance(retries, Retries) else Retries(times=retries)
        agent = f"fleet-client/{VERSION}"
        self._wires = Wires(
            api=Transport(url, api_key, timeout_s=timeout, retries=patience, agent=agent),
            store=Store(timeout_s=timeout, retries=patience, agent=agent),
        )
        self.url = url.rstrip("/")

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._wires.close()

    def segment(
        self,
        source: Input,
        *,
        model: str,
        version: int | None = None,
        priority: str = "normal",
        labels: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        retention_s: float | None = None,
        callback: str | Callback | None = None,
        idempotency_key: str | None = None,
        on_upload: OnTransfer | None = None,
        **params: Any,
    ) -> Job:
        """Submits one volume for segmentation: a file, bytes, or a folder of DICOM files.

        Other keyword arguments are the model's params, for instance `format="nrrd"`. See `submit` for the rest.
        """
        return self.submit(
            "segmentation",
            [source],
            model=model,
            version=version,
            params=params,
            priority=priority,
            labels=labels,
            deadline_s=deadline_s,
            retention_s=retention_s,
            callback=callback,
            idempotency_key=idempotency_key,
            on_upload=on_upload,
        )

    def submit(
        self,
        task: str | None,
        inputs: Sequence[Input],
        *,
        model: str,
        version: int | None = None,
        params: Mapping[str, Any] | None = None,
        priority: str = "normal",
        lane: str | None = None,
        labels: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        execution_timeout_s: float | None = None,
        max_attempts: int | None = None,
        retention_s: float | None = None,
        callback: str | Callback | None = None,
        refuse_without_worker: bool = False,
        idempotency_key: str | None = None,
        wait_s: int = 0,
        on_upload: OnTransfer | None = None,
    ) -> Job:
        """Uploads the inputs and submits one job; returns as soon as the server has recorded it.

        inputs: paths, bytes, open files, references, URLs of pictures. Of a folder its DICOM files are sent as one zip,
        or its pictures.
        model: "name" or "name@alias". task: None for the model's own. version: None for its default, else the highest.
        priority: "urgent", "high", "normal" or "low".
        deadline_s: the job expires when it has not ended so many seconds after the submit.
        retention_s: how long the server keeps the job after its end, with results and what was uploaded; None: as it is
        set up.
        callback: a URL that is told of the job's end by webhook, or a `Callback` that says more.
        refuse_without_worker: rather `Unavailable` with the code "no-capable-worker" than a job that waits for a worker
        which can run it.
        idempotency_key: submitting the same again under the same key gives the first job, also when files had to be
        uploaded again. Without one, a fresh key makes sure that a retried request makes one job.
        wait_s: how long the server may hold the answer for the job's end, which saves a question for short jobs.
        on_upload: called with a `Transfer` as bytes leave.

        Raises InputUnusable, APIError, TransferFailed, ConnectionFailed, Timeout.
        """
        if isinstance(inputs, str | bytes | os.PathLike):
            raise TypeError("inputs is a list: give [input] for a single one")
        sent = Inputs(self._wires, on_upload)
        for given in inputs:
            sent.add(given)
        body: dict[str, Any] = {
            "model": model,
            "inputs": sent.references,
            "params": dict(params or {}),
            "priority": priority,
            "labels": dict(labels or {}),
        }
        optional = {
            "task": task,
            "version": version,
            "lane": lane,
            "deadline_s": deadline_s,
            "execution_timeout_s": execution_timeout_s,
            "max_attempts": max_attempts,
            "retention_s": retention_s,
            "callback": _callback(callback),
            "when_no_worker": "refuse" if refuse_without_worker else None,
        }
        body.update({name: value for name, value in optional.items() if value is not None})
        headers = {"idempotency-key": idempotency_key or uuid.uuid4().hex}
        if wait_s:
            headers["prefer"] = f"wait={wait_s}"

        def posted() -> httpx.Response:
            return self._wires.api.request("POST", "jobs", json=body, headers=headers, hold_s=wait_s)

        try:
            try:
                answer = posted()
            except TooLarge as error:
                # Said by a proxy in between, which takes less than the server, and not by the server.
                if error.code != "http-413" or not sent.upload_rest():
                    raise
                answer = posted()
        except InvalidRequest as error:
            earlier = self._earlier(error)
            if earlier is None or not is_same_request(earlier.record, body, sent.digests):
                raise
            return earlier
        return self._job(read(JobRecord, answer))

    def upload(self, source: Sendable, *, name: str | None = None, on_upload: OnTransfer | None = None) -> Upload:
        """Sends bytes ahead; the reference is an input for any number of jobs."""
        with open_source(source, name) as opened:
            return uploads.send(self._wires, opened, on_upload)

    def job(self, job_id: str) -> Job:
        """Raises NotFound."""
        answer = self._wires.api.request("GET", f"jobs/{quote(job_id, safe='')}")
        return self._job(read(JobRecord, answer))

    def jobs(
        self,
        *,
        state: str | None = None,
        model: str | None = None,
        task: str | None = None,
        priority: str | None = None,
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 50,
    ) -> Iterator[Job]:
        """Your jobs, newest first; pages are fetched as the iteration goes on. Times without a zone are local."""
        query: list[tuple[str, str]] = [("limit", str(page_size))]
        chosen = {"state": state, "model": model, "task": task, "priority": priority}
        query += [(name, value) for name, value in chosen.items() if value is not None]
        query += [("label", f"{name}:{value}") for name, value in (labels or {}).items()]
        moments = {"created_after": created_after, "created_before": created_before}
        query += [(name, moment.astimezone().isoformat()) for name, moment in moments.items() if moment]
        cursor: str | None = None
        while True:
            page_query = query if cursor is None else [*query, ("cursor", cursor)]
            answer = self._wires.api.request("GET", "jobs", params=page_query)
            page = read(JobPage, answer)
            yield from map(self._job, page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return

    def fleet(self) -> FleetStatus:
        """The workers that live, and what they run at this moment."""
        return read(FleetStatus, self._wires.api.request("GET", "monitoring/fleet"))

    def queues(self, *, empty_too: bool = False) -> QueuesStatus:
        """The queues in which anything waits, or all of them: depth, expected wait, who helps out."""
        params = {"all": "true"} if empty_too else None
        return read(QueuesStatus, self._wires.api.request("GET", "monitoring/queues", params=params))

    def webhook_deliveries(
        self, *, job: str | None = None, state: str | None = None, page_size: int = 50
    ) -> Iterator[WebhookDelivery]:
        """Your webhooks, newest first, of all jobs or of one; pages are fetched as the iteration goes on."""
        chosen = {"job": job, "state": state, "limit": str(page_size)}
        query = {name: value for name, value in chosen.items() if value is not None}
        while True:
            page = read(WebhookPage, self._wires.api.request("GET", "webhooks/deliveries", params=query))
            yield from page.deliveries
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def webhook_delivery(self, delivery_id: str) -> WebhookDelivery:
        """One with every try; its id is the `webhook-id` that the receiver got. Raises NotFound."""
        path = f"webhooks/deliveries/{quote(delivery_id, safe='')}"
        return read(WebhookDelivery, self._wires.api.request("GET", path))

    def replay_webhook(self, delivery_id: str) -> WebhookDelivery:
        """Sends it once more, now, under the same id. Raises NotFound."""
        path = f"webhooks/deliveries/{quote(delivery_id, safe='')}/replay"
        return read(WebhookDelivery, self._wires.api.request("POST", path))

    def webhook_secrets(self) -> list[str]:
        """What your receivers verify signatures with, newest first: any of them will do."""
        return read(WebhookSecrets, self._wires.api.request("GET", "webhooks/secret")).secrets

    def _job(self, record: JobRecord) -> Job:
        return Job(self._wires, record)

    def _earlier(self, error: InvalidRequest) -> Job | None:
        """The job that an idempotency key stands for already, as the refusal names it."""
        job_id = error.facts.get("job_id") if error.code == "idempotency-key-reused" else None
        return self.job(job_id) if isinstance(job_id, str) else None


def _callback(given: str | Callback | None) -> dict[str, Any] | None:
    if given is None:
        return None
    return {"url": given} if isinstance(given, str) else given.model_dump(exclude_defaults=True)
