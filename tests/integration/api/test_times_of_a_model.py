"""Deadline and execution timeout: the request's, else the model's own, else the fleet's."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleet.card import Card
from tests.support.clone import ROOT
from tests.support.front_door import Door, card
from worker.engine.model_folder import read_versions
from worker.tasks import find_tasks


def times_of(door: Door, **asked: float) -> tuple[timedelta, float]:
    job = door.core.jobs.get(door.id(str(door.accepted(**asked)["id"])))
    assert job.deadline is not None
    return job.deadline - job.created_at, job.execution_timeout_s


def about(deadline: timedelta, seconds: float) -> bool:
    return abs(deadline.total_seconds() - seconds) < 1.0


def test_model_says_how_long_its_jobs_may_take(door: Door) -> None:
    door.announce(card(deadline_s=600, execution_timeout_s=90))
    deadline, timeout_s = times_of(door)
    assert about(deadline, 600)
    assert timeout_s == 90


def test_request_knows_better_than_the_model(door: Door) -> None:
    door.announce(card(deadline_s=600, execution_timeout_s=90))
    deadline, timeout_s = times_of(door, deadline_s=60, execution_timeout_s=30)
    assert about(deadline, 60)
    assert timeout_s == 30


def test_model_that_says_nothing_leaves_the_deadline_to_the_fleet(door: Door) -> None:
    door.announce(card())
    deadline, timeout_s = times_of(door)
    assert about(deadline, door.core.settings.default_deadline_s)
    assert timeout_s == 3600


@pytest.mark.parametrize(
    ("lines", "deadline_s", "execution_timeout_s"),
    [("", None, 3600.0), ("deadline_s: 600\nexecution_timeout_s: 90\n", 600.0, 90.0)],
)
def test_card_repeats_what_model_yaml_says(
    tmp_path: Path, lines: str, deadline_s: float | None, execution_timeout_s: float
) -> None:
    (tmp_path / "timed" / "1").mkdir(parents=True)
    (tmp_path / "timed" / "1" / "model.onnx").write_bytes((ROOT / "models/echo/1/model.onnx").read_bytes())
    (tmp_path / "timed" / "model.yaml").write_text(f"task: echo\n{lines}", "utf-8")
    (version,) = read_versions(tmp_path / "timed", find_tasks())
    shown: Card = version.card()
    assert (shown.deadline_s, shown.execution_timeout_s) == (deadline_s, execution_timeout_s)
