"""The OpenAPI document: the framework's, put right where it does not know our ways."""

from typing import Any

from fastapi import FastAPI

from api.problems import MEDIA_TYPE

#: Request headers that a route reads by itself, for its `openapi_extra`.
PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string"},
    "description": "`wait=N`: answer when the job has ended, at the latest after N seconds (RFC 7240)",
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string"},
    "description": "1 to 255 visible characters: a repeat with the same key returns the first job",
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The id of the last event that arrived: nothing is sent until there is a newer one",
}
TRACEPARENT = {
    "name": "traceparent",
    "in": "header",
    "schema": {"type": "string"},
    "description": "W3C trace context, kept with the job",
}


class DocumentedApp(FastAPI):
    """An app whose errors are documented as the problem details that they are."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for methods in document["paths"].values():
            for operation in methods.values():
                _problems(operation["responses"])
        return document


def _problems(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        content = response.get("content", {})
        if status[0] in "45" and "application/json" in content:
            content[MEDIA_TYPE] = content.pop("application/json")
