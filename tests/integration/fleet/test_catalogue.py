"""Cards and workers as the record keeps them."""

from collections.abc import Iterator

import pytest

from fleet.catalogue import Catalogue
from fleet.contracts import Pool
from fleet.database import Database
from fleet.errors import NotFound
from fleet.settings import Settings
from tests.support.front_door import card, worker_row


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


@pytest.fixture
def catalogue(database: Database) -> Catalogue:
    return Catalogue(database)


def test_a_card_comes_back_as_it_was_announced(catalogue: Catalogue) -> None:
    announced = card(labels={1: "brain"}, description="ä")
    catalogue.announce_cards([announced], "w1")
    assert catalogue.get("text").card == announced


def test_versions_are_ordered_as_numbers(catalogue: Catalogue) -> None:
    catalogue.announce_cards([card(version=version) for version in (9, 10, 2)], "w1")
    entry = catalogue.get("text")
    assert (entry.card.version, entry.versions) == (10, [2, 9, 10])
    assert [found.card.version for found in catalogue.entries()] == [10]


def test_the_newest_word_about_a_version_wins(catalogue: Catalogue) -> None:
    catalogue.announce_cards([card(description="old")], "w1")
    catalogue.announce_cards([card(description="new")], "w2")
    assert catalogue.get("text", 1).card.description == "new"


def test_what_is_not_there_names_what_is(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound, match="is a worker running"):
        catalogue.get("text")
    catalogue.announce_cards([card("a"), card("b")], "w1")
    with pytest.raises(NotFound, match="known models: a, b"):
        catalogue.get("text")
    with pytest.raises(NotFound, match="in version 7"):
        catalogue.get("a", 7)


def test_only_workers_that_were_seen_lately_count(catalogue: Catalogue, database: Database) -> None:
    catalogue.announce_cards([card()], "w1")
    for name in ("w1", "w2"):
        catalogue.announce_worker(worker_row(name))
    assert catalogue.get("text").ready_workers == 2
    database.run("update worker set seen_at = clock_timestamp() - interval '16 seconds' where name = 'w1'")
    assert [worker.word.name for worker in catalogue.workers()] == ["w2"]
    assert catalogue.get("text").ready_workers == 1


def test_a_worker_withdraws_its_own_row_only(catalogue: Catalogue) -> None:
    catalogue.announce_worker(worker_row("w1", pid=1))
    catalogue.withdraw_worker("w1", pid=2)
    assert len(catalogue.workers()) == 1
    catalogue.withdraw_worker("w1", pid=1)
    assert catalogue.workers() == []


def test_a_heartbeat_keeps_the_start_and_a_restart_renews_it(catalogue: Catalogue) -> None:
    starts = []
    for pid in (1, 1, 2):
        catalogue.announce_worker(worker_row("w1", Pool.GPU, pid=pid, running=pid))
        (worker,) = catalogue.workers()
        starts.append(worker.started_at)
        assert worker.word == worker_row("w1", Pool.GPU, pid=pid, running=pid)
    assert starts[0] == starts[1] < starts[2]
