"""A forecast in words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli import expectations
from cli.durations import roughly
from fleet_client import Forecast
from tests.support.protocol_server import JOB_ID, ProtocolServer
from tests.unit.cli.conftest import Fleet

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def span(earliest: float, expected: float, latest: float) -> dict[str, str]:
    moments = {"earliest": earliest, "expected": expected, "latest": latest}
    return {name: (NOW + timedelta(seconds=value)).isoformat() for name, value in moments.items()}


def forecast(**fields: Any) -> dict[str, Any]:
    return {"at": NOW.isoformat(), "start": span(20, 40, 120), "end": span(60, 90, 240), "basis": "measured", **fields}


def told(**fields: Any) -> str | None:
    return expectations.sentence(Forecast.model_validate(forecast(**fields)))


def test_the_usual_forecast() -> None:
    assert told(position=13) == (
        "starts in about 40 s (20 s to 2 min), 12 before it; ends in about 2 min (60 s to 4 min), as measured"
    )


def test_the_next_one_and_one_far_back() -> None:
    assert told(position=1, start=span(0, 0, 1)) == (
        "starts at once, next in its queue; ends in about 2 min (60 s to 4 min), as measured"
    )
    assert "at least 1,000 before it" in (told(position=1001, position_at_least=True) or "")


def test_nobody_can_take_it() -> None:
    why = "no GPU worker of the bulk lane is alive"
    assert told(start=None, end=None, why=why, position=2) == f"nobody can take it now: {why}"


def test_a_running_job_only_has_an_end() -> None:
    running = Forecast.model_validate(forecast(start=None, basis="the model's card"))
    assert expectations.start(running) is None
    assert expectations.end(running) == "in about 2 min (60 s to 4 min), by the model's card"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (4.4, "4 s"),
        (41, "40 s"),
        (89, "90 s"),
        (90, "2 min"),
        (3700, "60 min"),
        (20_000, "6 h"),
        (4e5, "5 d"),
    ],
)
def test_lengths_of_time_have_two_digits_at_most(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


def test_show_tells_what_to_expect(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job(forecast=forecast(position=13))]
    words = " ".join(fleet("jobs", "show", JOB_ID).out.split())
    assert "starts in about 40 s (20 s to 2 min), 12 before it" in words
    assert "ends in about 2 min" in words


def test_show_of_an_older_server_says_nothing_of_it(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job()]
    assert "starts" not in fleet("jobs", "show", JOB_ID).out


def test_submit_tells_it_beside_the_id(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [server.job(forecast=forecast())]
    said = fleet("submit", "segmentation", "-m", "brain-extraction", "--no-wait", __file__)
    assert said.code == 0
    assert said.out.strip() == JOB_ID
    assert "starts in about 40 s (20 s to 2 min)" in said.err
