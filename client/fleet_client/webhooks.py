"""What the server says of webhooks: what was sent to whom, and how it went."""

from datetime import datetime

from pydantic import Field

from fleet_client.records import Record


class WebhookTry(Record):
    """`took_ms` is None while it is under way, and when its sender was lost; `status` is None without an answer."""

    number: int
    at: datetime
    took_ms: float | None = None
    status: int | None = None
    error: str | None = None


class WebhookDelivery(Record):
    """One event for one receiver; `id` is the `webhook-id` that the receiver gets with every try.

    `state` is `pending`, `delivered`, `failed` or `gone`. `history` is there when it was asked for alone.
    """

    id: str
    type: str
    job_id: str
    url: str
    state: str
    tries: int = 0
    next_try_at: datetime | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    history: list[WebhookTry] = Field(default_factory=list)


class WebhookPage(Record):
    deliveries: list[WebhookDelivery]
    next_cursor: str | None = None


class WebhookSecrets(Record):
    secrets: list[str] = Field(repr=False)
