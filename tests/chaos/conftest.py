"""Servers that may be broken, and a whole fleet of processes on them."""

from collections.abc import Iterator

import pytest

from fleet.settings import Settings
from tests.support.faults import Breakable
from tests.support.servers import Servers


@pytest.fixture
def breakable(servers: Servers, settings: Settings) -> Iterator[Breakable]:
    """The servers behind `settings`. Whatever was stopped runs again when the test is over."""
    opened = Breakable(servers.stack)
    yield opened
    opened.start_all()
