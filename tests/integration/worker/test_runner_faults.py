"""The runner and the lease keeper while something around them fails: nothing is lost, doubled or left behind."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fleet.contracts import Job, JobInput, JobState, ObjectRef, ResultKind, Stage
from fleet.database import Database
from fleet.errors import CorruptInput, DependencyError, GeometryError, ModelError
from fleet.job_news import as_told
from fleet.job_values import Claim
from fleet.jobs import JobStore
from fleet.objects import ObjectStore
from fleet.settings import Settings
from tests.support.bench import Bench
from worker.leases import Held, LeaseKeeper
from worker.progress import JobProgress
from worker.stop import StopReason, StopToken


def eventually(fact: Callable[[], bool], timeout_s: float = 20.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not fact():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_result_survives_when_only_the_answer_to_its_commit_was_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.make_a_file(monkeypatch)
    finish, calls = JobStore.finish, []

    def answer_lost(self: JobStore, job: Job, **values: Any) -> Job | None:
        outcome = finish(self, job, **values)
        calls.append(job.id)
        if len(calls) == 1:
            raise DependencyError("away", code="database-unavailable")
        return outcome

    monkeypatch.setattr(JobStore, "finish", answer_lost)
    ended = bench.run(bench.submit())
    assert len(calls) == 2
    assert ended.state is JobState.SUCCEEDED
    (artifact,) = ended.artifacts
    assert bench.objects.keys(f"results/{ended.id}/") == [artifact.object.key]


def test_loser_leaves_no_objects(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.make_a_file(monkeypatch)
    finish = JobStore.finish

    def too_late(self: JobStore, job: Job, **values: Any) -> Job | None:
        # Meanwhile the lease lapsed and somebody else took the job.
        bench_database = Database(bench.process.settings.database_dsn)
        with bench_database as database:
            database.run(
                "update job set lease_until = clock_timestamp() - interval '1 s' where id = %(id)s", {"id": job.id}
            )
            assert JobStore(database).claim(job.id, "another", 60.0) is not None
        return finish(self, job, **values)

    monkeypatch.setattr(JobStore, "finish", too_late)
    after = bench.run(bench.submit())
    assert (after.state, after.attempt) == (JobState.RUNNING, 2)
    assert bench.objects.keys(f"results/{after.id}/") == []


def test_job_without_files_needs_no_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.runner, "_scratch", Path("/nonexistent/scratch"))
    assert bench.run(bench.submit()).state is JobState.SUCCEEDED


def test_full_disk_fails_the_attempt_and_not_the_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.make_a_file(monkeypatch)
    monkeypatch.setattr(bench.runner, "_scratch", Path("/nonexistent/scratch"))
    after = bench.run(bench.submit())
    assert after.state is JobState.QUEUED, "tried again, perhaps elsewhere"
    assert after.error is not None
    assert after.error.code == "worker-disk"
    assert bench.process.leases.running == 0


def test_keeper_outlives_a_record_that_turned_read_only(bench: Bench) -> None:
    job = bench.submit()
    claim = bench.jobs.claim(job.id, "me", 1.0)
    assert claim is not None
    stop = StopToken()
    name = bench.process.settings.database_dsn.rsplit("/", 1)[1]
    with psycopg.connect(bench.process.settings.database_dsn, autocommit=True) as admin:
        admin.execute(f"alter database {name} set default_transaction_read_only = on".encode())
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
            [name],
        )
        bench.process.leases.hold(Held(claim.job, stop, JobProgress(stop), time.monotonic() + 99))
        time.sleep(1.5)
        admin.execute("set default_transaction_read_only = off")
        admin.execute(f"alter database {name} reset default_transaction_read_only".encode())
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
            [name],
        )
    bench.jobs.cancel(job.id, "default")
    eventually(lambda: stop.reason is StopReason.CANCELLED)


@pytest.mark.parametrize(
    "error",
    [
        GeometryError("bad spacing", spacing=(float("nan"), 1.0)),
        CorruptInput("text with \x00 in it"),
        CorruptInput("text with a lone surrogate", series=["1.2.\udcff"]),
    ],
    ids=["nan", "nul", "surrogate"],
)
def test_every_error_can_be_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: GeometryError | CorruptInput
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(bench.process.codecs, "decode", fail)
    after = bench.run(bench.submit())
    assert after.state is JobState.FAILED
    assert after.error is not None
    assert after.error.code == error.code


def test_second_attempt_in_the_same_process_does_not_hide_the_first(bench: Bench) -> None:
    job = bench.submit()
    tokens = []
    for _ in range(2):
        claim = bench.jobs.claim(job.id, "me", 0.0)
        assert claim is not None
        stop = StopToken()
        bench.process.leases.hold(Held(claim.job, stop, JobProgress(stop), time.monotonic() + 99))
        tokens.append(stop)
    eventually(lambda: tokens[0].reason is StopReason.LEASE_LOST)
    assert tokens[1].reason is None


def test_statements_survive_a_migration_that_adds_a_column(bench: Bench) -> None:
    for _ in range(8):
        assert bench.run(bench.submit()).state is JobState.SUCCEEDED
    with psycopg.connect(bench.process.settings.database_dsn, autocommit=True) as admin:
        admin.execute("alter table job add column from_the_future text")
    assert bench.run(bench.submit()).state is JobState.SUCCEEDED


def test_claim_whose_answer_was_lost_is_found_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench.submit(max_attempts=1)
    once, calls = Database._once, []

    def answer_lost(self: Database, statement: str, *values: Any) -> Any:
        rows = once(self, statement, *values)
        calls.append(statement)
        if len(calls) == 1:
            from fleet.database import _Broken

            raise _Broken
        return rows

    monkeypatch.setattr(Database, "_once", answer_lost)
    claim = bench.jobs.claim(job.id, "me", 30.0)
    assert claim is not None
    assert claim.job.attempt == 1


def test_run_that_ignores_its_stop_ends_the_process(bench: Bench) -> None:
    ends: list[int] = []
    keeper = LeaseKeeper(bench.jobs, 30.0, stop_patience_s=0.5, end=ends.append)
    claim = bench.jobs.claim(bench.submit().id, "me", 30.0)
    assert claim is not None
    stop = StopToken()
    keeper.start()
    keeper.hold(held := Held(claim.job, stop, JobProgress(stop), time.monotonic()))
    eventually(lambda: bool(ends))
    assert ends[0] == 70
    assert stop.reason is StopReason.EXECUTION_TIMEOUT
    keeper.release(held)
    keeper.close()


def test_drain_waits_for_a_claim_under_way_and_lets_no_new_one_begin(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, begun = JobStore.claim, threading.Event()

    def slow(self: JobStore, *values: Any, **more: Any) -> Claim | None:
        outcome = claim(self, *values, **more)
        begun.set()
        time.sleep(0.5)
        return outcome

    monkeypatch.setattr(JobStore, "claim", slow)
    job, later = bench.submit(), bench.submit()
    bench.start(job)
    assert begun.wait(10)
    bench.process.leases.drain()
    assert bench.process.leases.wait_idle(20)
    assert bench.jobs.get(job.id).state is JobState.SUCCEEDED
    assert bench.run(later).state is JobState.QUEUED
    assert bench.jobs.get(later.id).attempt == 0


def test_hand_back_of_a_job_that_was_to_be_cancelled_cancels_it(bench: Bench) -> None:
    job = bench.submit()
    claim = bench.jobs.claim(job.id, "me", 30.0)
    assert claim is not None
    bench.jobs.cancel(job.id, "default")
    after = bench.jobs.hand_back(claim.job, "drained")
    assert after is not None
    assert after.state is JobState.CANCELLED


def test_worker_without_the_model_hands_the_job_back_for_another(bench: Bench) -> None:
    after = bench.run(bench.submit(model="elsewhere", max_attempts=1))
    assert after.state is JobState.QUEUED
    assert bench.jobs.claim(after.id, "another", 30.0) is not None, "the only attempt is not spent"


def test_old_message_says_nothing_about_the_order_of_the_queue(bench: Bench) -> None:
    waiting = [bench.submit() for _ in range(5)]
    with Database(bench.process.settings.database_dsn) as database:
        database.run("update job set published_at = published_at - interval '60 s'")
        late = bench.submit()
        # Its first message was taken for lost and a second one sent; the first one is what a worker takes now.
        bench.jobs.publication_failed(late)
        database.run("update job set published_at = clock_timestamp() where id = %(id)s", {"id": late.id})
    assert bench.jobs.claim(late.id, "me", 30.0, seq=1) is not None
    lost = bench.outbox.forget_overtaken(waiting[0].queue, empty=False, grace_s=5.0, limit=100)
    assert lost == 0
    in_order = bench.submit()
    assert bench.jobs.claim(in_order.id, "me", 30.0, seq=in_order.publish_seq) is not None
    assert bench.outbox.forget_overtaken(waiting[0].queue, empty=False, grace_s=5.0, limit=100) == 5


def test_claim_waits_while_the_record_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.claims._CLAIM_AGAIN_S", 0.1)
    claim, calls = JobStore.claim, []

    def away_at_first(self: JobStore, *values: Any, **more: Any) -> Claim | None:
        calls.append(1)
        if len(calls) < 4:
            raise DependencyError("away", code="database-unavailable")
        return claim(self, *values, **more)

    monkeypatch.setattr(JobStore, "claim", away_at_first)
    assert bench.run(bench.submit()).state is JobState.SUCCEEDED
    assert len(calls) == 4


def test_outage_of_the_object_store_is_waited_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.make_a_file(monkeypatch)
    put, calls = ObjectStore.put_file, []

    def away_at_first(self: ObjectStore, *values: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) < 3:
            raise DependencyError("away", code="object-store-unavailable")
        return put(self, *values, **more)

    monkeypatch.setattr(ObjectStore, "put_file", away_at_first)
    ended = bench.run(bench.submit())
    assert ended.state is JobState.SUCCEEDED
    assert ended.attempt == 1


def test_input_that_cannot_be_read_for_long_goes_back_and_leaves_its_place_to_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: ObjectStore, *_: Any) -> Any:
        raise DependencyError("away", code="object-store-unavailable")

    monkeypatch.setattr(ObjectStore, "fetch", away)
    monkeypatch.setattr("worker.inputs._PATIENCE_S", 0.1)
    stored = ObjectRef(bucket=bench.objects.bucket, key="uploads/default/x/y", size=1)
    after = bench.run(bench.submit(inputs=[JobInput(object=stored)]))
    assert after.state is JobState.QUEUED
    assert (after.attempt, after.forgiven) == (1, 1), "no attempt is spent"
    assert [(note.outcome, note.detail) for note in after.history] == [("handed-back", "input-unavailable")]


def test_end_of_a_run_is_told_when_the_record_is_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fail, calls = JobStore.fail, []

    def away_at_first(self: JobStore, *values: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) < 3:
            raise DependencyError("away", code="database-unavailable")
        return fail(self, *values, **more)

    monkeypatch.setattr(JobStore, "fail", away_at_first)
    after = bench.run(bench.submit(params={"unknown": 1}))
    assert after.state is JobState.FAILED
    assert len(calls) == 3


def test_result_that_json_cannot_hold_is_an_error_with_a_code(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        bench.process.codecs.encode(ResultKind.JSON, {"values": [float("nan")]}, tmp_path)
    assert caught.value.code == "result-not-finite"


def test_scratch_of_a_killed_worker_is_swept_and_that_of_a_living_one_is_not(bench: Bench, tmp_path: Path) -> None:
    from worker.scratch import Scratch

    living = bench.process.scratch.folder
    dead = Scratch(tmp_path / "scratch")
    (dead.folder / "volume.npy").write_bytes(b"somebody's head")
    assert dead._lock is not None
    dead._lock.close()  # as the kernel does when the process is killed
    Scratch(tmp_path / "scratch").close()
    assert not dead.folder.exists()
    assert living.exists()


def test_timings_name_every_stage_that_ran(bench: Bench) -> None:
    timings = bench.run(bench.submit()).timings
    assert list(timings) == [stage.value for stage in Stage if stage.value in timings]
    assert {"queue", "load", "infer", "encode", "store"} <= set(timings)


def test_waiters_are_told_when_a_job_ends(bench: Bench, settings: Settings) -> None:
    import redis

    from fleet.broker import ENDED_CHANNEL

    client = redis.Redis.from_url(settings.redis_url.get_secret_value())
    with client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(ENDED_CHANNEL)
        channel.get_message(timeout=2)
        ended = bench.run(bench.submit())
        word: Any = None
        give_up = time.monotonic() + 5
        while word is None and time.monotonic() < give_up:
            word = channel.get_message(timeout=0.5)
        job_id, state, news = word["data"].split(b" ", 2)
        assert (job_id.decode(), state.decode()) == (str(ended.id), "succeeded")
        submitted = ended.model_copy(update={"state": JobState.QUEUED, "revision": 0, "result": None, "timings": {}})
        assert as_told(submitted, news) == ended
