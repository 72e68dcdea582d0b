"""What a receiver gets: one JSON body that is both a Standard Webhooks payload and a structured CloudEvent 1.0.

It is a word and not the goods: ids, state and links, in less than 20 kB. Results and masks are fetched with a key.
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson

from api.views import API
from fleet.contracts import JobState
from fleet.webhook_values import Delivery

MEDIA_TYPE = "application/cloudevents+json"
MAX_BYTES = 20_000
_MAX_MESSAGE = 1000
#: What may be left out, the longest first, until the body is small enough.
_OPTIONAL = ("labels", "artifacts")


def event_body(delivery: Delivery, public_url: str | None) -> bytes:
    """The same bytes for every try. Without a `public_url` links are paths on this server."""
    time = _utc(delivery.created_at)
    data = _data(delivery, (public_url or "").rstrip("/") + API)
    event = {
        "specversion": "1.0",
        "id": delivery.message_id,
        "source": f"{(public_url or '').rstrip('/')}{API}/jobs",
        "type": delivery.type,
        "time": time,
        "timestamp": time,
        "subject": str(delivery.job_id),
        "datacontenttype": "application/json",
        "data": data,
    }
    body = orjson.dumps(event)
    for name in sorted(_OPTIONAL, key=lambda name: -len(orjson.dumps(data[name]))):
        if len(body) >= MAX_BYTES:
            data[name] = None
            data["left_out"] = [*data["left_out"], name]
            body = orjson.dumps(event)
    return body


def _data(delivery: Delivery, base: str) -> dict[str, Any]:
    job, told = f"{base}/jobs/{delivery.job_id}", delivery.data
    succeeded = told["state"] == JobState.SUCCEEDED
    links = {"job": job} | ({"result": f"{job}/result"} if succeeded else {})
    artifacts = [
        {"name": name, "url": f"{job}/artifacts/{quote(name, safe='')}"} for name in told["artifacts"] if succeeded
    ]
    return {
        **told,
        **{name: _utc(datetime.fromisoformat(told[name])) for name in _moments(told)},
        "error": _shortened(told["error"]),
        "artifacts": artifacts,
        "links": links,
        "left_out": [],
    }


def _moments(told: dict[str, Any]) -> list[str]:
    return [name for name in ("created_at", "started_at", "finished_at") if told[name] is not None]


def _shortened(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """Facts stay behind: they may be long, and the job has them."""
    if error is None:
        return None
    message = error.get("message", "")
    shown = message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"
    return {"code": error.get("code"), "message": shown, "retryable": error.get("retryable", False)}


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
