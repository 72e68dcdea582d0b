"""The items of a job of many, as they are finished: what becomes of each picture."""

from collections.abc import Iterator

from pydantic import ValidationError

from fleet_client.errors import Conflict, TransferFailed
from fleet_client.following import HOLD_WATCHED_S, Follower
from fleet_client.records import JobItem, JobRecord
from fleet_client.transport import Wires

NO_ITEMS = "job-has-no-items"


class ItemReader:
    """Reads the items of one job, each once, in their order."""

    def __init__(self, wires: Wires, path: str) -> None:
        self._wires = wires
        self._path = path
        self._next = 0

    def items(self, timeout_s: float | None, seen: list[JobRecord]) -> Iterator[JobItem]:
        """Until the job has ended, however it ends; `seen` gets its records. Raises Timeout, NotFound.

        A job that ended without success has no items any more.
        """
        follower = Follower(self._wires.api, self._path, hold_s=HOLD_WATCHED_S, timeout_s=timeout_s)
        for record in follower.records():
            seen[:] = [record]
            if record.state in ("running", "succeeded"):
                yield from self._finished(record)

    def _finished(self, record: JobRecord) -> Iterator[JobItem]:
        try:
            answer = self._wires.api.request("GET", f"{self._path}/items", params={"first": str(self._next)})
        except Conflict as error:
            if error.code != NO_ITEMS:
                raise
            # It has a single result, or it ended without one since `record`.
            if record.state == "succeeded":
                yield self._only(record)
            return
        # Texts may hold other ends of lines than this one.
        for line in filter(None, answer.content.split(b"\n")):
            try:
                item = JobItem.model_validate_json(line)
            except ValidationError as error:
                raise TransferFailed("the server's list of items cannot be read", retryable=True) from error
            self._next = item.index + 1
            yield item

    def _only(self, record: JobRecord) -> JobItem:
        result = record.result
        if result is None:
            result = self._wires.api.request("GET", f"{self._path}/result").json()
        name = record.inputs[0].name if record.inputs else None
        return JobItem(index=0, name=name or "", result=result)
