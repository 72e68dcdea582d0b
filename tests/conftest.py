"""Fixtures for every test that needs real servers. Ask for `settings`; they start with the first test that does."""

import locale
from collections.abc import Iterator

import pytest
from hypothesis import settings as examples

from fleet.settings import Settings
from tests.support.servers import Servers, running_servers

#: `pytest --hypothesis-profile=long`: new examples every time, and many; see the tests that ask for it.
examples.register_profile("long", deadline=None)
#: Else the same examples every time, so that a change is judged by what it changed.
examples.register_profile("same", deadline=None, derandomize=True, database=None)
examples.load_profile("same")


@pytest.fixture(autouse=True)
def usual_locale() -> None:
    """Native readers write numbers under the C locale, and not all put back what they found."""
    locale.setlocale(locale.LC_CTYPE, "")


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
