"""Webhooks as people read them. Machines read `--json`."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cli import tables

if TYPE_CHECKING:
    from fleet_client import WebhookDelivery

_COLOURS = {"delivered": "green", "failed": "red", "gone": "red", "pending": "yellow"}


def delivery_list(deliveries: Iterable["WebhookDelivery"]) -> Table:
    table = _table("id", "event", "job", "state", "tries", "next try", "receiver")
    for delivery in deliveries:
        table.add_row(
            delivery.id,
            delivery.type,
            delivery.job_id,
            _state(delivery.state),
            str(delivery.tries),
            _moment(delivery.next_try_at),
            Text(delivery.url),
        )
    return table


def delivery(delivery: "WebhookDelivery") -> Group:
    facts = tables.facts(
        [
            ("webhook", delivery.id),
            ("event", delivery.type),
            ("job", delivery.job_id),
            ("receiver", Text(delivery.url)),
            ("state", _state(delivery.state)),
            ("happened", _moment(delivery.created_at)),
            ("next try", _moment(delivery.next_try_at)),
        ]
    )
    history = _table("try", "at", "ms", "answer", "fault")
    for entry in delivery.history:
        history.add_row(
            str(entry.number),
            _moment(entry.at),
            "" if entry.took_ms is None else f"{entry.took_ms:.0f}",
            "" if entry.status is None else str(entry.status),
            Text(entry.error or ("" if entry.took_ms is not None else "under way, or its sender was lost")),
        )
    return Group(facts, "", history) if delivery.history else Group(facts)


def _state(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, ""))


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        # Ids that are cut short are of no use: a receiver's URL gives way first.
        least = {"id": 36, "job": 36}.get(column)
        table.add_column(column, no_wrap=column not in ("receiver", "fault"), min_width=least, overflow="fold")
    return table
