"""`door`: a front door that believes that a worker lives; `stack`: one that has a worker, with Triton's own layout."""

from collections.abc import Iterator

import pytest

from fleet.contracts import Lane, MediaKind
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.servers import Servers
from tests.support.tensor_cards import pair
from tests.support.triton_stack import Stack, triton_stack


@pytest.fixture(scope="module")
def shared_door(servers: Servers) -> Iterator[Door]:
    with servers.fresh() as settings, front_door(settings, max_wait_s=20, max_body_bytes=256 * 1024) as opened:
        opened.announce(pair(), card("volume", task="segmentation", accepts=MediaKind.VOLUME, lane=Lane.BULK))
        yield opened


@pytest.fixture
def door(shared_door: Door) -> Door:
    # Its word holds for some seconds.
    shared_door.core.catalogue.announce_worker(worker_row(models=["pair/1", "volume/1", "ranked/1"]))
    return shared_door


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with servers.fresh() as settings, triton_stack(settings, tmp_path_factory.mktemp("stack")) as running:
        yield running
