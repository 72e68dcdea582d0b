"""What the record has to publish, taken without regard to shares."""

from fleet.outbox import Outbox, Publication


def take_due(outbox: Outbox, limit: int = 10) -> list[Publication]:
    """Up to so many jobs of each tenant and queue, marked as published."""
    due = outbox.due()
    return outbox.take(dict.fromkeys(due, limit)) if due else []
