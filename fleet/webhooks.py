"""The record of webhooks: who was to be told what, each try, and when the next one is due.

A trigger writes a delivery with the change of the job that it tells of; senders take those that are due
(`api/webhook_sender.py`), and the routes list and replay them. All times are PostgreSQL's clock.
"""

from collections.abc import Mapping
from dataclasses import fields
from uuid import UUID

from fleet.database import Database, Row
from fleet.errors import NotFound
from fleet.sql import statements
from fleet.webhook_values import (
    MAX_RETRY_AFTER_S,
    Backlog,
    CallbackBody,
    Delivery,
    DeliveryState,
    Try,
    TryResult,
    verdict,
)

_SQL = statements("webhooks")


class WebhookStore:
    """Stateless besides the database; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_due(
        self, limit: int, *, lease_s: float, per_host: int, busy: Mapping[tuple[str, str], int]
    ) -> list[Delivery]:
        """Takes deliveries whose time has come: try them now, each is the caller's for `lease_s` seconds.

        `busy` says how many tries the caller has under way, by tenant and host; `per_host` is how many it may have.
        """
        rows = self._database.run(
            _SQL["take_due_deliveries"],
            {
                "limit": limit,
                "lease_s": lease_s,
                "per_host": per_host,
                "busy_tenants": [tenant for tenant, _ in busy],
                "busy_hosts": [host for _, host in busy],
                "busy_counts": list(busy.values()),
            },
        )
        return [_delivery(row) for row in rows]

    def record_try(self, taken: Delivery, result: TryResult) -> DeliveryState | None:
        """The state that the delivery now has; None when the try came too late to decide anything."""
        state, pause_s = verdict(taken.tries - taken.forgiven, result.status)
        row = self._database.one(
            _SQL["record_try"],
            {
                "id": taken.id,
                "try": taken.tries,
                "took_ms": result.took_ms,
                "status": result.status,
                "error": result.error,
                "state": state.value,
                "pause_s": pause_s,
                "at_least_s": min(result.retry_after_s, MAX_RETRY_AFTER_S),
            },
        )
        if state is DeliveryState.GONE:
            self._database.run(_SQL["end_gone"], {"host": taken.host, "tenant": taken.tenant, "url": taken.url})
        return DeliveryState(row["state"]) if row else None

    def page(
        self,
        tenant: str,
        *,
        limit: int,
        job_id: UUID | None = None,
        state: DeliveryState | None = None,
        before: int | None = None,
    ) -> list[Delivery]:
        """Newest first; `before` is the number of the last one of the page before."""
        values = {"tenant": tenant, "limit": limit, "before": before, "state": state.value if state else None}
        if job_id is None:
            rows = self._database.run(_SQL["list_deliveries"], values)
        else:
            rows = self._database.run(_SQL["list_deliveries_of_job"], values | {"job_id": job_id})
        return [_delivery(row) for row in rows]

    def get(self, delivery_id: UUID, tenant: str) -> Delivery:
        """Raises NotFound `delivery-not-found`; a tenant does not see those of others."""
        row = self._database.one(_SQL["get_delivery"], {"id": delivery_id, "tenant": tenant})
        if row is None:
            raise NotFound(f"there is no webhook delivery msg_{delivery_id.hex}", code="delivery-not-found")
        return _delivery(row)

    def tries(self, delivery_id: UUID) -> list[Try]:
        """Oldest first."""
        rows = self._database.run(_SQL["list_tries"], {"id": delivery_id})
        return [Try(row["try"], row["at"], row["took_ms"], row["status"], row["error"]) for row in rows]

    def replay(self, delivery_id: UUID, tenant: str) -> Delivery:
        """Due now, under the same id; one that is just being tried stays as it is. Raises NotFound."""
        row = self._database.one(_SQL["replay_delivery"], {"id": delivery_id, "tenant": tenant})
        return _delivery(row) if row else self.get(delivery_id, tenant)

    def forget(self, older_s: float, limit: int) -> int:
        """Removes deliveries that ended so long ago, at most `limit`; how many those were."""
        return len(self._database.run(_SQL["forget_deliveries"], {"older_s": older_s, "limit": limit}))

    def abandon(self, overdue_s: float) -> int:
        """Ends what should have been tried so long ago, where nobody sends; how many those were."""
        return len(self._database.run(_SQL["end_abandoned"], {"overdue_s": overdue_s}))

    def backlog(self) -> Backlog:
        (row,) = self._database.run(_SQL["pending_deliveries"])
        return Backlog(row["pending"], row["oldest_s"])


def _delivery(row: Row) -> Delivery:
    known = {field.name: row[field.name] for field in fields(Delivery)}
    return Delivery(**{**known, "state": DeliveryState(row["state"]), "body": CallbackBody(row["body"])})
