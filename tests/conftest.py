"""Fixtures for every test that needs real servers. Ask for `settings`; they start with the first test that does."""

from collections.abc import Iterator

import pytest

from fleet.settings import Settings
from tests.support.servers import Servers, running_servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Real Valkey, PostgreSQL and SeaweedFS; one set per pytest process."""
    with running_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture
def settings(servers: Servers) -> Iterator[Settings]:
    """Settings of a fresh migrated database, an empty Redis and an empty bucket."""
    with servers.fresh() as fresh:
        yield fresh
