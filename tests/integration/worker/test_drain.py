"""A drain that comes at an awkward moment of a run: nothing is lost, no attempt is spent, nothing is stored twice."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fleet.contracts import InlineInput, Job, JobInput, JobState
from fleet.objects import ObjectStore, upload_key
from tests.support.bench import Bench
from worker.boot.intake import Wish, drain

Stage = Callable[[Bench, pytest.MonkeyPatch, threading.Event], Job]


def during_load(bench: Bench, monkeypatch: pytest.MonkeyPatch, begun: threading.Event) -> Job:
    leased = bench.process.registry.leased

    def slow(*values: Any, **more: Any) -> Any:
        begun.set()
        time.sleep(0.6)
        return leased(*values, **more)

    monkeypatch.setattr(bench.process.registry, "leased", slow)
    return bench.submit(max_attempts=1)


def during_fetch(bench: Bench, monkeypatch: pytest.MonkeyPatch, begun: threading.Event) -> Job:
    def endless(_self: ObjectStore, reference: Any, path: Any, on_bytes: Callable[[int], None]) -> Any:
        begun.set()
        while True:
            on_bytes(1)
            time.sleep(0.01)

    monkeypatch.setattr(ObjectStore, "fetch", endless)
    key = upload_key("default", bench.submit().id, "scan.nii.gz")
    stored = bench.objects.put_bytes(key, b"a" * 1000, media_type="application/octet-stream", name="scan.nii.gz")
    return bench.submit(max_attempts=1, inputs=[JobInput(object=stored)])


def during_inference(bench: Bench, monkeypatch: pytest.MonkeyPatch, begun: threading.Event) -> Job:
    job = bench.submit(max_attempts=1, params={"repeat": 1_000_000})
    begun.set()
    return job


def during_encode(bench: Bench, monkeypatch: pytest.MonkeyPatch, begun: threading.Event) -> Job:
    bench.make_a_file(monkeypatch)
    encode = bench.process.codecs.encode

    def slow(*values: Any) -> Any:
        begun.set()
        time.sleep(0.6)
        return encode(*values)

    monkeypatch.setattr(bench.process.codecs, "encode", slow)
    return bench.submit(max_attempts=1)


@pytest.mark.parametrize("stage", [during_load, during_fetch, during_inference, during_encode])
def test_run_is_stopped_and_handed_back_without_spending_its_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    begun = threading.Event()
    job = stage(bench, monkeypatch, begun)
    thread = bench.start(job)
    assert begun.wait(20)
    while bench.process.leases.running == 0:
        time.sleep(0.01)
    assert drain(bench.process.leases, Wish(), grace_s=0.1)
    thread.join(20)
    after = bench.jobs.get(job.id)
    assert (after.state, after.attempt, after.forgiven, after.losses) == (JobState.QUEUED, 1, 1, 0)
    assert [(note.outcome, note.detail) for note in after.history] == [("handed-back", "drained")]
    assert bench.objects.keys(f"results/{job.id}/") == []
    assert bench.jobs.claim(job.id, "another", 30.0) is not None, "its only attempt is still there"


def test_run_that_ends_within_the_grace_is_committed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    job = during_encode(bench, monkeypatch, begun)
    bench.start(job)
    assert begun.wait(20)
    assert drain(bench.process.leases, Wish(), grace_s=60.0)
    assert bench.jobs.get(job.id).state is JobState.SUCCEEDED


def test_wish_for_an_end_at_once_shortens_the_grace(bench: Bench) -> None:
    job = bench.submit(params={"repeat": 1_000_000})
    bench.start(job)
    while bench.process.leases.running == 0:
        time.sleep(0.01)
    wish = Wish()
    wish.at_once = True
    assert drain(bench.process.leases, wish, grace_s=3600.0)
    assert bench.jobs.get(job.id).state is JobState.QUEUED


def test_deaf_run_is_handed_back_without_it_and_what_it_does_later_has_no_effect(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.make_a_file(monkeypatch)
    begun, let_go = threading.Event(), threading.Event()

    def deaf(*_: Any) -> None:
        begun.set()
        let_go.wait(60)

    monkeypatch.setattr(bench.process.codecs, "decode", deaf)
    given = JobInput(inline=InlineInput(data=""))
    job = bench.submit(max_attempts=1, inputs=[given])
    thread = bench.start(job)
    assert begun.wait(20)
    assert not drain(bench.process.leases, Wish(), grace_s=0.1, hand_back_s=0.3)
    assert (bench.jobs.get(job.id).state, bench.jobs.get(job.id).forgiven) == (JobState.QUEUED, 1)
    claim = bench.jobs.claim(job.id, "another", 30.0)
    assert claim is not None
    let_go.set()
    thread.join(20)
    after = bench.jobs.get(job.id)
    assert (after.state, after.attempt) == (JobState.RUNNING, claim.job.attempt)
    assert bench.objects.keys(f"results/{job.id}/") == []
