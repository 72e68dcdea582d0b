"""What the reconciler repairs, round by round: each test breaks something and lets one tick mend it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis

from api.feeder import Feeder
from api.leadership import Leadership
from api.measures import Measures
from api.reconciler import Reconciler
from fleet.broker import ENDED_CHANNEL, Broker
from fleet.catalogue import Catalogue
from fleet.contracts import Job, JobState, ObjectRef
from fleet.database import Database
from fleet.errors import DependencyError
from fleet.ids import new_id
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.objects import ObjectStore, upload_key
from fleet.outbox import Outbox
from fleet.settings import Settings
from fleet.uploads import UploadStore
from tests.support.due_jobs import take_due
from tests.support.fleet_of_one import new_job
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.tcp_proxy import proxy_to
from tests.support.waiting import eventually

NO_BROKER = "redis://127.0.0.1:1/0"


@dataclass
class Scene:
    settings: Settings
    database: Database
    jobs: JobStore
    uploads: UploadStore
    objects: ObjectStore
    redis: "redis.Redis"
    feeder: Feeder
    reconciler: Reconciler
    measures: Measures

    def submit(self, *, tell: bool = True, **changes: Any) -> Job:
        job = self.jobs.submit(new_job(**changes)).job
        if tell:
            self.redis.lpush(job.queue, json.dumps({"headers": {"id": f"{job.id}:{job.publish_seq}"}}))
        return job

    def messages(self, queue: str) -> list[str]:
        """Task ids, the next one first."""
        return [json.loads(text)["headers"]["id"] for text in self.redis.lrange(queue, 0, -1)[::-1]]  # type: ignore[union-attr, index]

    def age(self, seconds: float, *jobs: Job) -> None:
        """As if they had been published that much earlier."""
        self.database.run(
            "update job set published_at = published_at - %(s)s * interval '1 second' where id = any(%(ids)s)",
            {"s": seconds, "ids": [job.id for job in jobs]},
        )

    def did(self, action: str) -> float:
        return self.measures.registry.get_sample_value("fleet_reconciler_actions_total", {"action": action}) or 0.0


@contextmanager
def scene_of(settings: Settings, redis_url: str | None = None) -> Iterator[Scene]:
    measures, broker = Measures(), Broker(redis_url or settings.redis_url.get_secret_value())
    leadership = Leadership(settings.database_dsn)
    with (
        Database(settings.database_dsn) as database,
        redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True) as client,
    ):
        uploads, objects = UploadStore(database), ObjectStore(settings)
        outbox = Outbox(database)
        feeder = Feeder(outbox, broker, weights={}, did=measures.reconciled)
        reconciler = Reconciler(
            outbox=outbox,
            uploads=uploads,
            catalogue=Catalogue(database),
            objects=objects,
            broker=broker,
            feeder=feeder,
            leadership=leadership,
            measures=measures,
            every_s=600.0,
        )
        yield Scene(settings, database, JobStore(database), uploads, objects, client, feeder, reconciler, measures)
    leadership.close()
    broker.close()


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    with scene_of(settings) as opened:
        # The first round finds a Redis that it has never seen.
        opened.reconciler.tick()
        yield opened


def test_a_round_in_which_nothing_is_wrong_does_nothing(scene: Scene) -> None:
    job = scene.submit()
    scene.reconciler.tick()
    assert scene.messages(job.queue) == [f"{job.id}:1"]
    assert scene.jobs.get(job.id) == job


def test_a_job_of_a_lost_worker_is_published_again_in_the_same_round(scene: Scene) -> None:
    job = scene.submit(tell=False)
    assert scene.jobs.claim(job.id, "w", 0.0)
    scene.reconciler.tick()
    assert scene.jobs.get(job.id).state is JobState.QUEUED
    assert scene.messages(job.queue) == [f"{job.id}:2"]
    assert scene.did("lease-lapsed") == 1


def test_a_job_that_killed_all_its_workers_is_poisoned_and_its_end_is_told(scene: Scene) -> None:
    job = scene.submit(tell=False, max_attempts=1)
    assert scene.jobs.claim(job.id, "w", 0.0)
    with scene.redis.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(ENDED_CHANNEL)
        channel.get_message(timeout=5)
        scene.reconciler.tick()
        told = channel.get_message(timeout=30)
    ended = scene.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert ended.error.code == "poisoned"
    assert told is not None
    assert told["data"] == f"{job.id} failed"


def test_a_job_past_its_deadline_expires_in_the_queue(scene: Scene) -> None:
    job = scene.submit(deadline_s=0.0)
    scene.reconciler.tick()
    assert scene.jobs.get(job.id).state is JobState.EXPIRED


def test_a_job_that_the_broker_was_never_told_of_is_published(scene: Scene) -> None:
    job = scene.submit(tell=False)
    scene.jobs.publication_failed(job)
    scene.database.run("update job set publish_after = clock_timestamp()")
    scene.reconciler.tick()
    assert scene.messages(job.queue) == [f"{job.id}:2"]


def test_after_the_broker_forgot_everything_all_that_waits_is_published_anew(scene: Scene) -> None:
    waiting = [scene.submit() for _ in range(703)]
    running = scene.submit()
    assert scene.jobs.claim(running.id, "w", 30.0)
    scene.redis.flushall()
    heard: list[str] = []
    while len(heard) < len(waiting):
        scene.reconciler.tick()
        heard += (new := scene.messages(running.queue))
        # As many as the tenant's share allows, in their order; the rest when these are taken.
        assert new
        scene.redis.delete(running.queue)
        for name in new:
            assert scene.jobs.claim(UUID(name.partition(":")[0]), "w", 30.0, seq=2)
    assert heard == [f"{job.id}:2" for job in waiting]


def test_a_message_that_was_overtaken_is_sent_again(scene: Scene) -> None:
    lost = scene.submit(tell=False)
    later = scene.submit()
    still_there = scene.submit()
    scene.age(60, lost)
    scene.age(30, later)
    assert scene.jobs.claim(later.id, "w", 30.0, seq=1)
    scene.reconciler.tick()
    assert scene.messages(lost.queue) == [f"{later.id}:1", f"{still_there.id}:1", f"{lost.id}:2"]
    assert scene.did("message-lost") == 1


def test_a_message_that_is_nowhere_in_an_empty_queue_is_sent_again(scene: Scene) -> None:
    lost = scene.submit(tell=False)
    scene.age(60, lost)
    scene.reconciler.tick()
    assert scene.messages(lost.queue) == [f"{lost.id}:2"]


def test_a_message_gets_its_grace_before_it_is_called_lost(scene: Scene) -> None:
    job = scene.submit(tell=False)
    scene.reconciler.tick()
    assert scene.messages(job.queue) == []


def test_a_deep_backlog_is_no_loss(scene: Scene) -> None:
    jobs = [scene.submit() for _ in range(20)]
    scene.age(3600, *jobs)
    scene.reconciler.tick()
    assert len(scene.messages(jobs[0].queue)) == 20
    assert scene.did("message-lost") == 0


def test_a_job_that_went_back_to_the_queue_does_not_make_others_look_overtaken(scene: Scene) -> None:
    waiting = scene.submit()
    scene.age(60, waiting)
    retried = scene.submit(tell=False)
    claim = scene.jobs.claim(retried.id, "w", 30.0)
    assert claim is not None
    assert scene.jobs.fail(claim.job, DependencyError("later"), Ending({}, None))
    scene.database.run("update job set publish_after = clock_timestamp() where published_at is null")
    for _ in range(2):
        scene.reconciler.tick()
    assert scene.messages(waiting.queue) == [f"{waiting.id}:1", f"{retried.id}:2"]


@pytest.mark.parametrize("end", ["its worker was lost", "its worker drained"])
def test_a_job_that_had_its_turn_and_lost_it_goes_before_those_that_wait(scene: Scene, end: str) -> None:
    lost = scene.submit(tell=False)
    waiting = [scene.submit() for _ in range(3)]
    claim = scene.jobs.claim(lost.id, "w", 0.0 if end == "its worker was lost" else 30.0, seq=1)
    assert claim is not None
    if end == "its worker drained":
        assert scene.jobs.hand_back(claim.job, "drained")
    scene.reconciler.tick()
    assert scene.messages(lost.queue) == [f"{lost.id}:2", *(f"{job.id}:1" for job in waiting)]
    # It was published last and taken first: that says nothing of the others.
    scene.age(60, *waiting)
    assert scene.jobs.claim(lost.id, "w2", 30.0, seq=2)
    scene.reconciler.tick()
    assert scene.did("message-lost") == 0


def test_without_the_broker_the_rest_of_the_round_happens(settings: Settings) -> None:
    with scene_of(settings, NO_BROKER) as scene:
        lapsed = scene.submit(tell=False)
        assert scene.jobs.claim(lapsed.id, "w", 0.0)
        late = scene.submit(tell=False, deadline_s=0.0)
        Catalogue(scene.database).announce_worker(worker_row())
        scene.database.run("update worker set seen_at = clock_timestamp() - interval '1 day'")
        scene.reconciler.tick()
        scene.reconciler.chores()
        assert scene.jobs.get(lapsed.id).state is JobState.QUEUED
        assert scene.jobs.get(late.id).state is JobState.EXPIRED
        assert scene.database.run("select from worker") == []
        faults = scene.measures.registry.get_sample_value("fleet_reconciler_faults_total", {"step": "broker"})
        assert faults == 1


def test_a_batch_that_the_broker_refuses_stays_due(scene: Scene, settings: Settings) -> None:
    port = int(settings.redis_url.get_secret_value().rpartition(":")[2].partition("/")[0])
    job = scene.submit(tell=False)
    scene.jobs.publication_failed(job)
    outbox = Outbox(scene.database)
    scene.database.run("update job set publish_after = clock_timestamp()")
    with proxy_to(port) as proxy:
        url = settings.redis_url.get_secret_value().replace(f":{port}", f":{proxy.port}")
        with scene_of(settings, url) as cut:
            proxy.cut()
            due = take_due(outbox)
            with pytest.raises(DependencyError):
                cut.feeder._publish(due)
    scene.database.run("update job set publish_after = clock_timestamp()")
    scene.reconciler.tick()
    assert scene.messages(job.queue) == [f"{job.id}:3"]


def test_only_one_of_several_leads_and_another_follows(settings: Settings) -> None:
    first, second = Leadership(settings.database_dsn), Leadership(settings.database_dsn)
    assert [first.held(), second.held(), first.held(), second.held()] == [True, False, True, False]
    first.close()
    eventually(second.held)
    second.close()


def test_a_leader_whose_session_ended_leads_no_longer(settings: Settings) -> None:
    first, second = Leadership(settings.database_dsn), Leadership(settings.database_dsn)
    assert first.held()
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
            " and database = (select oid from pg_database where datname = current_database())"
        )
    eventually(second.held)
    with pytest.raises(DependencyError):
        first.held()
    assert not first.held()
    first.close()
    second.close()


def stored_upload(scene: Scene, **changes: Any) -> UUID:
    upload_id = new_id()
    key = upload_key("default", upload_id, "a.nii")
    reference = ObjectRef(bucket=scene.objects.bucket, key=key, size=3, name="a.nii")
    scene.objects.put_bytes(key, b"abc", media_type="text/plain", name="a.nii")
    scene.uploads.create(upload_id, "default", reference, ttl_s=changes.pop("ttl_s", -7200.0), **changes)
    return upload_id


def test_uploads_that_nobody_used_go_with_their_bytes(scene: Scene) -> None:
    stale = stored_upload(scene)
    in_parts = stored_upload(
        scene, multipart_id=scene.objects.start_multipart("uploads/default/x", "text/plain"), part_size=1
    )
    fresh = stored_upload(scene, ttl_s=60.0)
    used = stored_upload(scene, ttl_s=60.0)
    scene.jobs.submit(new_job(uploads=[used]))
    scene.database.run(
        "update upload set expires_at = clock_timestamp() - interval '2 hours' where used_at is not null"
    )
    scene.reconciler.sweep_uploads()
    assert {row["id"] for row in scene.database.run("select id from upload")} == {fresh, used}
    assert len(scene.objects.keys("uploads/")) == 2
    assert scene.did("upload-swept") == 2
    assert {stale, in_parts}.isdisjoint(key.split("/")[2] for key in scene.objects.keys("uploads/"))


def test_keys_and_workers_of_the_past_are_forgotten(scene: Scene, settings: Settings) -> None:
    Catalogue(scene.database).announce_worker(worker_row("old"))
    Catalogue(scene.database).announce_worker(worker_row("new"))
    scene.database.run("update worker set seen_at = clock_timestamp() - interval '2 hours' where name = 'old'")
    scene.jobs.submit(new_job(idempotency_key="old"))
    scene.database.run("update idempotency set expires_at = clock_timestamp() - interval '1 hour'")
    scene.jobs.submit(new_job(idempotency_key="new"))
    scene.reconciler.chores()
    assert [row["name"] for row in scene.database.run("select name from worker")] == ["new"]
    assert [row["key"] for row in scene.database.run("select key from idempotency")] == ["new"]


def test_a_fault_of_ours_in_one_step_does_not_end_the_loop(scene: Scene) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    scene.reconciler._lapse_leases = broken  # type: ignore[method-assign]
    job = scene.submit(tell=False)
    scene.jobs.publication_failed(job)
    scene.database.run("update job set publish_after = clock_timestamp()")
    scene.reconciler.tick()
    assert scene.messages(job.queue) == [f"{job.id}:2"]


def test_the_front_doors_own_reconciler_works_without_being_asked(settings: Settings) -> None:
    with front_door(settings, reconcile_every_s=0.1) as door:
        door.announce(card())
        job = door.accepted()
        eventually(lambda: published(door, job["queue"]) == 1)
        with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
            client.flushall()
        eventually(lambda: published(door, job["queue"]) == 1)


def published(door: Door, queue: str) -> int:
    return door.core.broker.depths([queue])[queue]
