"""Identifiers: UUIDv7, so that keys sort by time of creation."""

from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

LEAST, GREATEST = UUID(int=0), UUID(int=2**128 - 1)


def new_id() -> UUID:
    return uuid7()


def least_id_of(moment: datetime, shift_s: float = 0.0) -> UUID:
    """The smallest id that could be made in that millisecond, or `shift_s` seconds later."""
    milliseconds = int((moment.timestamp() + shift_s) * 1000)
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)
