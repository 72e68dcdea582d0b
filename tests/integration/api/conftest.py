"""`door`: a front door on fresh servers that knows the models `text` (one text or more) and `volume` (one volume)."""

from collections.abc import Iterator

import pytest

from fleet.contracts import Lane, MediaKind, ResultKind
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door
from tests.support.servers import Servers

TEXT = card("text")
VOLUME = card("volume", task="segmentation", accepts=MediaKind.VOLUME, returns=ResultKind.MASK, lane=Lane.BULK)


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    with front_door(settings) as opened:
        opened.announce(TEXT, VOLUME)
        yield opened


@pytest.fixture(scope="module")
def shared_door(servers: Servers) -> Iterator[Door]:
    """One for all tests of a file: for those that leave nothing behind that another would see."""
    with servers.fresh() as settings, front_door(settings) as opened:
        opened.announce(TEXT, VOLUME)
        yield opened
