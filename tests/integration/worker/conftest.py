"""One fixture for the tests of a run's inside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.settings import Settings
from tests.support.bench import Bench, opened_bench


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with opened_bench(settings, tmp_path / "scratch") as opened:
        yield opened
