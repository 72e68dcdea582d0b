"""`stack`: a front door and a worker that tells colours apart."""

from collections.abc import Iterator

import pytest

from tests.support.picture_stack import PictureStack, picture_stack
from tests.support.servers import Servers


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PictureStack]:
    with servers.fresh() as settings, picture_stack(settings, tmp_path_factory.mktemp("stack")) as running:
        yield running
