"""`stack`: a front door and a worker that tells colours apart; `door`: one whose only worker is the test itself."""

from collections.abc import Iterator

import pytest

from fleet.contracts import MediaKind, ResultKind
from tests.support.front_door import Door, card, front_door
from tests.support.picture_stack import PictureStack, picture_stack
from tests.support.servers import Servers

PARAMS = {"type": "object", "additionalProperties": False, "properties": {"top_k": {"type": "integer", "minimum": 1}}}
CARD = card(
    "colours", task="image-classification", accepts=MediaKind.IMAGE, returns=ResultKind.ITEMS, params_schema=PARAMS
)


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PictureStack]:
    with servers.fresh() as settings, picture_stack(settings, tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="module")
def door(servers: Servers) -> Iterator[Door]:
    with servers.fresh() as settings, front_door(settings, max_wait_s=60) as opened:
        opened.announce(CARD, card("text"))
        yield opened
