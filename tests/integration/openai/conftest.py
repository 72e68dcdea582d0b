"""`door`: a front door that has a worker with the tiny embedder."""

from collections.abc import Iterator

import pytest

from tests.support.embedding_stack import embedding_stack
from tests.support.front_door import Door
from tests.support.servers import Servers


@pytest.fixture(scope="module")
def door(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with servers.fresh() as settings, embedding_stack(settings, tmp_path_factory.mktemp("stack")) as running:
        yield running
