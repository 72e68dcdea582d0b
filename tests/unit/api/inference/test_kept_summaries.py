"""Dashboards that ask for the same summary cost the record one read in two seconds."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pytest

from api.inference import summaries
from api.inference.summaries import Summaries
from fleet.errors import DependencyError
from fleet.inference_summary import InferenceSummary, InferenceSummaryReader


class Record(InferenceSummaryReader):
    """Says how often it was read, as the number of jobs."""

    def __init__(self, failures: int = 0) -> None:
        self.reads: list[tuple[str, float]] = []
        self._failures = failures
        self._lock = Lock()

    def read(self, tenant: str, window_s: float) -> InferenceSummary:
        with self._lock:
            self.reads.append((tenant, window_s))
            if len(self.reads) <= self._failures:
                raise DependencyError("the database is away")
            return InferenceSummary(window_s, False, len(self.reads), {}, {}, {}, [], None, None, None, None)


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "KEEP_S", 3600.0)


@pytest.mark.usefixtures("for_ever")
def test_who_asks_at_once_or_again_gets_what_was_read() -> None:
    record, start = Record(), Barrier(8)
    kept = Summaries(record)

    def asked(_: int) -> InferenceSummary:
        start.wait()
        return kept.of("a", 60.0)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(asked, range(8)))
    assert {answer.jobs for answer in (*answers, kept.of("a", 60.0))} == {1}


@pytest.mark.usefixtures("for_ever")
def test_each_tenant_and_window_has_a_summary_of_its_own() -> None:
    record = Record()
    kept = Summaries(record)
    asked = [("a", 60.0), ("b", 60.0), ("a", 61.0)]
    for _ in range(2):
        assert [kept.of(*one).jobs for one in asked] == [1, 2, 3]
    assert record.reads == asked


def test_what_is_out_of_date_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "KEEP_S", 0.0)
    kept = Summaries(Record())
    assert [kept.of("a", 60.0).jobs for _ in range(3)] == [1, 2, 3]


@pytest.mark.usefixtures("for_ever")
def test_a_read_that_failed_is_not_kept() -> None:
    kept = Summaries(Record(failures=1))
    with pytest.raises(DependencyError):
        kept.of("a", 60.0)
    assert kept.of("a", 60.0).jobs == kept.of("a", 60.0).jobs == 2
