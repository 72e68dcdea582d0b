"""/api/v1/webhooks: what was sent to whom, how it went, once more, and how receivers know that it was us."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from api.guarded import guarded_router, problems
from api.services import Core, Services, Tenant
from api.views import API
from api.webhook_views import DeliveryDetailView, DeliveryPageView, DeliveryView, SecretsView, delivery_view, try_view
from fleet.errors import Conflict, NotFound, ValidationFailed
from fleet.webhook_values import DeliveryState

router = guarded_router(f"{API}/webhooks", "webhooks")
_MAX_NUMBER = 2**63 - 1


@router.get("/deliveries", response_model=DeliveryPageView)
def list_deliveries(  # noqa: PLR0917 (the framework passes them by name)
    core: Core,
    tenant: Tenant,
    job: Annotated[str | None, Query(max_length=64, description="only those of this job")] = None,
    state: DeliveryState | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Your webhooks, newest first."""
    # One more than asked for tells whether there is a next page.
    found = core.webhooks.store.page(
        tenant, job_id=_job_id(job) if job is not None else None, state=state, limit=limit + 1, before=_cursor(cursor)
    )
    shown = found[:limit]
    page = DeliveryPageView(
        deliveries=[delivery_view(delivery) for delivery in shown],
        next_cursor=str(shown[-1].number) if len(found) > limit else None,
    )
    return page.answer()


@router.get("/deliveries/{delivery_id}", response_model=DeliveryDetailView, responses=problems(404))
def get_delivery(delivery_id: str, core: Core, tenant: Tenant) -> Response:
    """One delivery with every try; its id is the `webhook-id` that the receiver got."""
    delivery = core.webhooks.store.get(_known_id(delivery_id), tenant)
    history = [try_view(entry) for entry in core.webhooks.store.tries(delivery.id)]
    return DeliveryDetailView(**delivery_view(delivery).model_dump(), history=history).answer()


@router.post(
    "/deliveries/{delivery_id}/replay", status_code=202, response_model=DeliveryView, responses=problems(404, 409)
)
def replay_delivery(delivery_id: str, core: Core, tenant: Tenant) -> Response:
    """Sends it once more, now, under the same `webhook-id` and with the whole schedule. May be repeated."""
    _secrets(core, tenant)
    delivery = core.webhooks.store.replay(_known_id(delivery_id), tenant)
    core.webhooks.sender.wake()
    return delivery_view(delivery).answer(202)


@router.get("/secret", response_model=SecretsView, responses=problems(409))
def get_secret(core: Core, tenant: Tenant) -> Response:
    """What your receivers verify signatures with: any of these, the newest first."""
    return SecretsView(secrets=_secrets(core, tenant)).answer(headers={"cache-control": "no-store"})


def _secrets(core: Services, tenant: str) -> list[str]:
    if not core.webhooks.keys.configured:
        raise Conflict(
            "this server sends no webhooks: its operator must set WEBHOOK_SECRETS", code="webhooks-not-configured"
        )
    return core.webhooks.keys.of(tenant)


def _known_id(text: str) -> UUID:
    """`msg_…` as receivers know it, or the bare id. Raises NotFound: what is not an id belongs to no delivery."""
    try:
        return UUID(text.removeprefix("msg_"))
    except ValueError:
        raise NotFound(f"there is no webhook delivery {text[:64]!r}", code="delivery-not-found") from None


def _job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _invalid("job", "is not the id of a job") from None


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= _MAX_NUMBER):
        raise _invalid("cursor", "is not one that this server gave: take `next_cursor` of the page before")
    return int(text)


def _invalid(parameter: str, detail: str) -> ValidationFailed:
    return ValidationFailed(f"?{parameter}: {detail}", [{"detail": detail, "pointer": f"?{parameter}"}])
