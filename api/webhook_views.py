"""What callers get to see of webhooks, as types."""

from uuid import UUID

from pydantic import Field

from api.views import Moment, View
from fleet.webhook_values import Delivery, DeliveryState, Try


class TryView(View):
    number: int
    at: Moment
    took_ms: float | None = Field(description="null while it is under way, and for ever when its sender was lost")
    status: int | None = Field(description="of the receiver's answer; null without one")
    error: str | None


class DeliveryView(View):
    id: str = Field(description="the `webhook-id` of every try")
    type: str
    job_id: UUID
    url: str
    state: DeliveryState
    tries: int
    next_try_at: Moment | None = Field(description="null when there is none")
    created_at: Moment = Field(description="when that happened which it tells of")
    ended_at: Moment | None


class DeliveryDetailView(DeliveryView):
    history: list[TryView] = Field(description="every try, oldest first")


class DeliveryPageView(View):
    deliveries: list[DeliveryView]
    next_cursor: str | None


class SecretsView(View):
    secrets: list[str] = Field(description="newest first; every webhook is signed with each of them")


def delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.message_id,
        type=delivery.type,
        job_id=delivery.job_id,
        url=delivery.url,
        state=delivery.state,
        tries=delivery.tries,
        next_try_at=delivery.due_at if delivery.state is DeliveryState.PENDING else None,
        created_at=delivery.created_at,
        ended_at=delivery.ended_at,
    )


def try_view(entry: Try) -> TryView:
    return TryView(number=entry.number, at=entry.at, took_ms=entry.took_ms, status=entry.status, error=entry.error)
