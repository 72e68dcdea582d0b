"""The body of a webhook: complete as a CloudEvent, and never long."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest

from api.webhook_event import MAX_BYTES, event_body
from fleet.webhook_values import Delivery, DeliveryState

JOB = UUID("01990000-0000-7000-8000-000000000001")
MOMENT = datetime(2026, 1, 1, 2, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=2)))


def delivery(**data: Any) -> Delivery:
    told = {
        "job_id": str(JOB), "state": "failed", "task": "t", "model": "m", "version": 1, "labels": {}, "attempt": 1,
        "error": None, "artifacts": [], "created_at": "2026-01-01T01:00:00.25+01:00", "started_at": None,
        "finished_at": None, **data,
    }  # fmt: skip
    return Delivery(
        id=UUID(int=7),
        number=1,
        tenant="default",
        job_id=JOB,
        url="https://a.example/",
        host="a.example",
        type=f"job.{told['state']}",
        data=told,
        state=DeliveryState.PENDING,
        tries=1,
        forgiven=0,
        due_at=MOMENT,
        created_at=MOMENT,
        ended_at=None,
    )


def event(**data: Any) -> dict[str, Any]:
    return dict(orjson.loads(event_body(delivery(**data), None)))


def test_every_required_attribute_is_there_and_times_are_utc() -> None:
    made = event()
    data = made.pop("data")
    assert made == {
        "specversion": "1.0",
        "id": "msg_00000000000000000000000000000007",
        "source": "/api/v1/jobs",
        "type": "job.failed",
        "time": "2026-01-01T00:00:00.500000Z",
        "timestamp": "2026-01-01T00:00:00.500000Z",
        "subject": str(JOB),
        "datacontenttype": "application/json",
    }
    assert data["created_at"] == "2026-01-01T00:00:00.250000Z"
    assert data["started_at"] is None
    assert datetime.fromisoformat(made["time"]) == MOMENT.astimezone(UTC)


def test_an_error_is_told_without_its_facts_and_cut_where_it_is_long() -> None:
    error = {"code": "bad", "message": "m" * 5000, "retryable": True, "facts": {"worker": "w" * 5000}}
    told = event(error=error)["data"]["error"]
    assert (told["code"], told["retryable"], set(told)) == ("bad", True, {"code", "message", "retryable"})
    assert told["message"] == "m" * 999 + "…"


def test_a_job_without_a_result_has_no_links_to_one() -> None:
    data = event(state="cancelled", artifacts=["left.nii"])["data"]
    assert (set(data["links"]), data["artifacts"]) == ({"job"}, [])
    assert set(event(state="succeeded")["data"]["links"]) == {"job", "result"}


@pytest.mark.parametrize(
    ("labels", "artifacts", "left_out"),
    [
        ({"a": "b"}, ["mask.nii.gz"], []),
        ({f"{number:0256}": "ü" * 256 for number in range(32)}, ["mask.nii.gz"], ["labels"]),
        ({"a": "b"}, [f"{number}.nii.gz" for number in range(500)], ["artifacts"]),
        ({f"{number:0256}": "ü" * 256 for number in range(32)}, ["m" * 255] * 100, ["artifacts", "labels"]),
    ],
    ids=["short", "labels", "artifacts", "both"],
)
def test_a_body_is_short_and_says_what_it_leaves_out(
    labels: dict[str, str], artifacts: list[str], left_out: list[str]
) -> None:
    error = {"code": "c", "message": "ü" * 5000, "retryable": False}
    made = delivery(state="succeeded", labels=labels, artifacts=artifacts, error=error)
    body = event_body(made, "https://fleet.example")
    data = orjson.loads(body)["data"]
    assert len(body) < MAX_BYTES
    assert data["left_out"] == left_out
    assert {name for name in ("labels", "artifacts") if data[name] is None} == set(left_out)
    assert event_body(made, "https://fleet.example") == body
