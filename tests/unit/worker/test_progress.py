"""Stages add up, nested stages count their own time, and the fraction never goes back."""

import time

import pytest

from fleet.contracts import Stage
from fleet.errors import RunStopped
from worker.progress import JobProgress
from worker.stop import StopReason, StopToken


def test_nested_stages_count_their_own_time() -> None:
    progress = JobProgress(StopToken())
    with progress.stage(Stage.PREPARE):
        time.sleep(0.02)
        with progress.stage(Stage.INFER):
            time.sleep(0.05)
    timings = progress.timings
    assert list(timings) == ["prepare", "infer"]
    assert timings["infer"] >= 0.05
    assert timings["prepare"] < timings["infer"]


def test_time_between_stages_is_what_belongs_to_none() -> None:
    progress = JobProgress(StopToken())
    progress.note(Stage.QUEUE, 1000.0)
    time.sleep(0.02)
    with progress.stage(Stage.INFER):
        time.sleep(0.02)
    between_s = progress.between_stages_s
    assert between_s >= 0.02
    assert between_s + progress.timings["infer"] < 1000.0, "what was measured elsewhere came before"


def test_fraction_never_goes_back_and_shows_the_stage() -> None:
    progress = JobProgress(StopToken())
    seen = []
    for stage in (Stage.FETCH, Stage.DECODE, Stage.PREPARE, Stage.INFER, Stage.FINISH, Stage.STORE):
        with progress.stage(stage):
            if stage is Stage.INFER:
                for step in (1, 3, 2, 4):
                    progress.advance(step, 4)
                    seen.append(progress.shown[1])
            assert progress.shown[0] == stage.value
            seen.append(progress.shown[1])
    assert seen == sorted(seen)
    assert seen[-1] < 1


def test_every_call_notices_that_the_run_is_to_stop() -> None:
    stop = StopToken()
    progress = JobProgress(stop)
    stop.set(StopReason.CANCELLED)
    for call in (progress.check, lambda: progress.advance(1, 2), lambda: progress.stage(Stage.INFER).__enter__()):
        with pytest.raises(RunStopped):
            call()
