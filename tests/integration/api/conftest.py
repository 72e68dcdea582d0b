"""`door`: a front door on fresh servers that knows the models `text` (any number of texts) and `volume` (one volume)."""

from collections.abc import Iterator

import pytest

from fleet.contracts import Lane, MediaKind, ResultKind
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door

TEXT = card("text")
VOLUME = card("volume", task="segmentation", accepts=MediaKind.VOLUME, returns=ResultKind.MASK, lane=Lane.BULK)


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    with front_door(settings) as opened:
        opened.announce(TEXT, VOLUME)
        yield opened
