from collections.abc import Iterator

import pytest

from fleet_client import Client, Retries
from tests.support.protocol_server import ProtocolServer

#: Impatient, so that tests of failures are quick.
QUICK = Retries(times=3, first_s=0.01, longest_s=0.02)


@pytest.fixture
def server() -> Iterator[ProtocolServer]:
    with ProtocolServer() as running:
        yield running


@pytest.fixture
def fleet(server: ProtocolServer) -> Iterator[Client]:
    with Client(server.url, "the-key", timeout=5, retries=QUICK) as client:
        yield client
