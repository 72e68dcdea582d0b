"""A real worker helps out where it is asked to: in the right order, with the reason, and in nothing else."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.broker import Broker, message
from fleet.contracts import Job, JobState, Pool, Priority
from fleet.settings import Settings
from tests.support.fleet_of_one import environment_of, wait_for, worker_process
from tests.support.helped_out import WHY, Record, record_of
from tests.support.tcp_proxy import Proxy

NAME = "cpu-1"
ONE = {"WORKER_NAME": NAME, "WORKER_CONCURRENCY": "1"}
SHORT, LONG = {"pause_s": 1.0}, {"pause_s": 60.0}


@pytest.fixture
def record(settings: Settings) -> Iterator[Record]:
    with record_of(settings) as opened:
        yield opened


def in_order_of_start(record: Record, *jobs: Job) -> list[str]:
    ended = [wait_for(record.jobs, job.id) for job in jobs]
    assert all(job.state is JobState.SUCCEEDED and job.attempt == 1 for job in ended), ended
    return [job.queue for job in sorted(ended, key=lambda job: str(job.started_at))]


def busy(record: Record, pool: Pool) -> Job:
    """A job that keeps the only slot until the others wait in their queues."""
    job = record.submit_to(pool, Priority.URGENT, params=SHORT)
    return wait_for(record.jobs, job.id, "running")


def test_a_helper_takes_by_priority_and_its_own_before_those_of_the_gpus(record: Record, tmp_path: Path) -> None:
    with worker_process(record.settings, tmp_path, **ONE):
        record.ask(NAME, "gpu.bulk.urgent", "gpu.bulk.low")
        record.wait_until_taking(NAME, "gpu.bulk.urgent", "gpu.bulk.low")
        busy(record, Pool.CPU)
        waiting = [
            record.submit_to(Pool.GPU, Priority.LOW),
            record.submit_to(Pool.CPU, Priority.LOW),
            record.submit_to(Pool.GPU, Priority.URGENT),
            record.submit_to(Pool.CPU, Priority.URGENT),
        ]
        assert in_order_of_start(record, *waiting) == [
            "cpu.bulk.urgent",
            "gpu.bulk.urgent",
            "cpu.bulk.low",
            "gpu.bulk.low",
        ]


def test_a_gpu_worker_takes_first_what_nobody_else_can_run(record: Record, tmp_path: Path) -> None:
    with worker_process(record.settings, tmp_path, INFERENCE_DEVICE="simulated-gpu", **ONE):
        busy(record, Pool.GPU)
        waiting = [
            record.submit_to(Pool.GPU, Priority.HIGH),
            record.submit_gpu_only(Priority.HIGH),
            record.submit_gpu_only(Priority.LOW),
            record.submit_to(Pool.GPU, Priority.URGENT),
        ]
        assert in_order_of_start(record, *waiting) == [
            "gpu.bulk.urgent",
            "gpu-only.bulk.high",
            "gpu.bulk.high",
            "gpu-only.bulk.low",
        ]
        word = record.word(NAME)
        assert (word.kind, word.helps, word.pool) == ("simulated-gpu", False, Pool.GPU)


def test_a_helper_joins_and_leaves_as_it_is_asked_and_says_so(record: Record, tmp_path: Path) -> None:
    with worker_process(record.settings, tmp_path, **ONE):
        record.wait_until_taking(NAME)
        word = record.word(NAME)
        assert (word.kind, word.helps) == ("cpu", True)
        assert word.memory_usable_bytes is not None
        assert word.memory_usable_bytes > 0
        assert word.memory_granted_bytes == 0
        record.ask(NAME, "gpu.bulk.normal")
        helped = wait_for(record.jobs, record.submit_to(Pool.GPU).id)
        assert helped.ran_on is not None
        assert (helped.ran_on.pool, helped.ran_on.why) == (Pool.CPU, WHY)
        record.ask(NAME)
        record.wait_until_taking(NAME)
        left = record.submit_to(Pool.GPU)
        own = wait_for(record.jobs, record.submit_to(Pool.CPU, Priority.LOW).id)
        assert own.ran_on is not None
        assert own.ran_on.why == own.route_reason
        assert record.jobs.get(left.id).state is JobState.QUEUED


def test_what_lies_in_a_queue_that_was_left_is_none_of_its_business(record: Record, tmp_path: Path) -> None:
    stuck_s = 4
    with worker_process(record.settings, tmp_path, WORKER_STUCK_S=str(stuck_s), **ONE) as process:
        record.ask(NAME, "gpu.bulk.normal")
        assert wait_for(record.jobs, record.submit_to(Pool.GPU).id).state is JobState.SUCCEEDED
        record.ask(NAME)
        record.wait_until_taking(NAME)
        record.submit_to(Pool.GPU)
        # The watchdog ends a process that leaves the same message lying for half as long.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(stuck_s)


def test_a_helper_is_never_given_what_only_a_gpu_may_run(record: Record, tmp_path: Path) -> None:
    with worker_process(record.settings, tmp_path, **ONE):
        record.ask(NAME, "gpu.bulk.normal", "gpu-only.bulk.normal")
        only = record.submit_gpu_only(Priority.NORMAL)
        record.wait_until_taking(NAME, "gpu.bulk.normal")
        wait_for(record.jobs, record.submit_to(Pool.GPU).id)
        assert record.jobs.get(only.id).state is JobState.QUEUED


def test_a_worker_that_is_asked_before_it_starts_helps_at_once(record: Record, tmp_path: Path) -> None:
    why = "no GPU worker of the bulk lane is alive"
    record.ask(NAME, "gpu.bulk.normal", why=why)
    job = record.submit_to(Pool.GPU)
    with worker_process(record.settings, tmp_path, **ONE):
        ended = wait_for(record.jobs, job.id)
        assert ended.ran_on is not None
        assert ended.ran_on.why == why


def test_a_worker_that_is_told_to_keep_to_its_own_does(record: Record, tmp_path: Path) -> None:
    record.ask(NAME, "gpu.bulk.normal")
    waiting = record.submit_to(Pool.GPU)
    with worker_process(record.settings, tmp_path, WORKER_OVERFLOW="false", **ONE):
        # Long enough for several looks.
        wait_for(record.jobs, record.submit_to(Pool.CPU, params={"pause_s": 2.0}).id)
        assert record.jobs.get(waiting.id).state is JobState.QUEUED
        assert record.word(NAME).helps is False
        record.wait_until_taking(NAME)


def test_a_worker_helps_in_its_lanes_only(record: Record, tmp_path: Path) -> None:
    record.ask(NAME, "gpu.bulk.low", "gpu.interactive.low")
    with worker_process(record.settings, tmp_path, WORKER_LANES="interactive", **ONE):
        record.wait_until_taking(NAME, "gpu.interactive.low")


def test_a_worker_of_named_queues_helps_in_its_lanes(record: Record, tmp_path: Path) -> None:
    command = ["-m", "celery", "-A", "worker.app", "worker", "-Q", "cpu.bulk.normal", "--without-gossip"]
    ready = tmp_path / "ready"
    environment = environment_of(record.settings, WORKER_LANES="bulk", WORKER_READY_FILE=str(ready), **ONE)
    record.ask(NAME, "gpu.bulk.normal", "gpu.interactive.normal")
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=log)
    try:
        record.wait_until_taking(NAME, "gpu.bulk.normal")
        assert set(record.word(NAME).queues) == {"cpu.bulk.normal", "gpu.bulk.normal"}
        assert wait_for(record.jobs, record.submit_to(Pool.GPU).id).state is JobState.SUCCEEDED
        assert wait_for(record.jobs, record.submit_to(Pool.CPU).id).state is JobState.SUCCEEDED
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert record.catalogue.workers() == []


def test_help_goes_on_after_redis_was_away(record: Record, tmp_path: Path) -> None:
    url = record.settings.redis_url.get_secret_value()
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    proxy = Proxy(port)
    try:
        with worker_process(record.settings, tmp_path, **ONE, REDIS_URL=url.replace(f":{port}", f":{proxy.port}")):
            record.ask(NAME, "gpu.bulk.low")
            record.wait_until_taking(NAME, "gpu.bulk.low")
            for asked in ("gpu.bulk.normal", "gpu.bulk.low"):
                proxy.cut()
                record.ask(NAME, asked)
                proxy.mend()
                record.wait_until_taking(NAME, asked)
                priority = Priority.NORMAL if asked.endswith("normal") else Priority.LOW
                assert wait_for(record.jobs, record.submit_to(Pool.GPU, priority).id).state is JobState.SUCCEEDED
            other = record.submit_to(Pool.GPU, Priority.NORMAL)
            assert wait_for(record.jobs, record.submit_to(Pool.CPU, Priority.LOW).id).state is JobState.SUCCEEDED
            assert record.jobs.get(other.id).state is JobState.QUEUED
    finally:
        proxy.cut()


def test_a_helper_that_drains_hands_back_and_takes_nothing_more(record: Record, tmp_path: Path) -> None:
    with worker_process(record.settings, tmp_path, WORKER_DRAIN_S="0.2", **ONE) as process:
        record.ask(NAME, "gpu.bulk.normal")
        running = record.submit_to(Pool.GPU, params=LONG)
        wait_for(record.jobs, running.id, "running")
        waiting = [record.submit_to(Pool.GPU) for _ in range(5)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert record.catalogue.workers() == []
    for job in [running, *waiting]:
        assert record.jobs.get(job.id).state is JobState.QUEUED
    assert record.jobs.get(running.id).history[-1].outcome == "handed-back"
    with worker_process(record.settings, tmp_path, **ONE):
        for job in waiting:
            ended = wait_for(record.jobs, job.id)
            assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)


def test_a_message_in_a_queue_that_its_job_has_left_is_void(record: Record, tmp_path: Path) -> None:
    with worker_process(record.settings, tmp_path, **ONE):
        job = record.submit_to(Pool.GPU)
        broker = Broker(record.settings.redis_url.get_secret_value())
        broker.publish(job.id, job.publish_seq, "cpu.bulk.normal")
        own = record.submit_to(Pool.CPU, Priority.NORMAL)
        assert wait_for(record.jobs, own.id).state is JobState.SUCCEEDED
        assert record.jobs.get(job.id).state is JobState.QUEUED
        assert record.jobs.get(job.id).attempt == 0
        # What does not say where it was lying is believed.
        broker.publish_all([("cpu.bulk.normal", message(job.id, job.publish_seq, "gibberish"))])
        broker.close()
        assert wait_for(record.jobs, job.id).state is JobState.SUCCEEDED
