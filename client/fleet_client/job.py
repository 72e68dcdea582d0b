"""A job at the server: a handle, with the record as it was last seen."""

import os
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from fleet_client import downloads
from fleet_client.errors import JobCancelled, JobEnded, JobExpired, JobFailed, NotFound
from fleet_client.following import HOLD_S, HOLD_WATCHED_S, Follower
from fleet_client.items import ItemReader
from fleet_client.problems import read
from fleet_client.progress import ProgressLine
from fleet_client.records import Artifact, JobFault, JobItem, JobRecord, JobState, RanOn
from fleet_client.transport import Wires
from fleet_client.uploads import OnTransfer

OnProgress: TypeAlias = Callable[[JobRecord], None]

_ENDINGS: dict[str, type[JobEnded]] = {
    JobState.FAILED: JobFailed,
    JobState.CANCELLED: JobCancelled,
    JobState.EXPIRED: JobExpired,
}


class Job:
    """Made by `Client`. Its properties read `record`; `refresh`, `wait`, `cancel` and `retry` renew it."""

    def __init__(self, wires: Wires, record: JobRecord) -> None:
        self._wires = wires
        #: What the server said last.
        self.record = record

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.record.model} {self.state}>"

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def state(self) -> str:
        """One of `JobState`, or a newer server's word."""
        return self.record.state

    @property
    def ended(self) -> bool:
        return self.record.ended

    @property
    def stage(self) -> str | None:
        return self.record.stage

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        return self.record.progress

    @property
    def error(self) -> JobFault | None:
        return self.record.error

    @property
    def artifacts(self) -> list[Artifact]:
        return self.record.artifacts

    @property
    def labels(self) -> Mapping[str, str]:
        return self.record.labels

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds per stage."""
        return self.record.timings

    @property
    def ran_on(self) -> RanOn | None:
        return self.record.ran_on

    def refresh(self) -> "Job":
        """Asks the server once. Raises NotFound when the job is gone."""
        self.record = self._ask("GET", self._path)
        return self

    def wait(self, progress: bool | OnProgress = False, *, timeout: float | None = None, check: bool = True) -> "Job":
        """Waits for the end, at most `timeout` seconds, and survives restarts of the server meanwhile.

        `progress=True` shows a line on standard error; a function is called with the record, at first as it is
        known, then whenever it has changed.
        Raises JobFailed, JobCancelled or JobExpired unless `check` is False, and Timeout: then the job goes on.
        """
        watch = ProgressLine() if progress is True else progress or None
        if watch is not None:
            watch(self.record)
        if not self.ended:
            hold_s = HOLD_S if watch is None else HOLD_WATCHED_S
            follower = Follower(self._wires.api, self._path, hold_s=hold_s, timeout_s=timeout, known=self.record)
            for self.record in follower.records():
                if watch is not None:
                    watch(self.record)
        if check:
            self._raise_unless_succeeded()
        return self

    def events(self, *, timeout: float | None = None) -> Iterator[JobRecord]:
        """The record as it is now, and again whenever it has changed, up to the one that has ended.

        Goes on over lost connections and restarts of the server. Steps that follow each other closely may come as
        one. Raises Timeout after `timeout` seconds, and NotFound when the job is deleted.
        """
        follower = Follower(self._wires.api, self._path, hold_s=HOLD_WATCHED_S, timeout_s=timeout)
        for self.record in follower.records():
            yield self.record

    def items(self, *, timeout: float | None = None) -> Iterator[JobItem]:
        """What became of each of many, pictures for instance, in their order, some at a time as they are finished.

        Of a job with a single result that is the only one. Raises JobFailed, JobCancelled or JobExpired at the end of
        a job that did not succeed, and what `events` raises.
        """
        seen = [self.record]
        for item in ItemReader(self._wires, self._path).items(timeout, seen):
            self.record = seen[0]
            yield item
        self.record = seen[0]
        self._raise_unless_succeeded()

    def cancel(self) -> "Job":
        """Asks for the end. A running job is `cancelling` until its worker has stopped; `wait` sees the end.

        Raises Conflict `job-already-ended` when it had ended otherwise.
        """
        self.record = self._ask("POST", f"{self._path}/cancel")
        return self

    def retry(self, deadline_s: float | None = None) -> "Job":
        """Queues a job once more that failed, was cancelled or has expired: the same id, and all its attempts again.

        deadline_s: from now; None for as long as it had at first. Raises Conflict `job-not-ended` or `job-succeeded`.
        """
        body = None if deadline_s is None else {"deadline_s": deadline_s}
        self.record = read(JobRecord, self._wires.api.request("POST", f"{self._path}/retry", json=body))
        return self

    def delete(self) -> bool:
        """Removes the job with its results, and with the uploads that no other job uses; a running one is stopped.

        From then on the server does not know it. True when all of it is gone; False when the rest follows, within
        seconds or when its worker has stopped, and when it had been deleted before, which is no error.
        """
        try:
            answer = self._wires.api.request("DELETE", self._path)
        except NotFound:
            return False
        return answer.status_code != HTTPStatus.ACCEPTED

    def result(self, *, timeout: float | None = None) -> dict[str, Any]:
        """What the task returned; waits for it like `wait`, and raises the same."""
        self.wait(timeout=timeout)
        if self.record.result is None:
            answer = self._wires.api.request("GET", f"{self._path}/result")
            self.record = self.record.model_copy(update={"result": answer.json()})
        return self.record.result or {}

    def save(self, folder: str | os.PathLike[str], *, on_download: OnTransfer | None = None) -> list[Path]:
        """Downloads every artifact into `folder`, made when missing, and returns their paths in the job's order.

        Waits for the end like `wait`. Each file is verified against its SHA-256 and put in place at once, replacing
        one of the same name; nothing is ever written outside the folder. Raises ChecksumMismatch, TransferFailed,
        what `wait` raises, and OSError from the local disk.
        """
        self.wait()
        target = Path(folder).expanduser()
        target.mkdir(parents=True, exist_ok=True)
        return [
            downloads.fetch(self._wires, quote(self.id, safe=""), artifact, target, on_download)
            for artifact in self.artifacts
        ]

    @property
    def _path(self) -> str:
        return f"jobs/{quote(self.id, safe='')}"

    def _ask(self, method: str, path: str) -> JobRecord:
        return read(JobRecord, self._wires.api.request(method, path))

    def _raise_unless_succeeded(self) -> None:
        ending = _ENDINGS.get(self.state)
        if ending is not None:
            raise ending(self)
