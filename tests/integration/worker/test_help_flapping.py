"""A worker is sent to and fro thousands of times while jobs flow. No reconciler mends what is lost here."""

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.broker import Broker
from fleet.contracts import Job, JobState, Lane, Pool, Priority
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job, wait_for, worker_process
from tests.support.helped_out import HASTY, Record, record_of

HELPER = "cpu-1"
JOBS, SWITCHES = 1_200, 2_000
#: The two errands have no queue in common: each turn leaves two and joins two.
ERRANDS = (["gpu.bulk.urgent", "gpu.bulk.normal"], ["gpu.bulk.high", "gpu.bulk.low"])


def switches(log: Path) -> int:
    """Queues that were joined or left, after what the worker wrote of it."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if '"helping out"' in line]
    told = [set[str]()] + [set(line["queues"]) for line in lines]
    return sum(len(before ^ after) for before, after in itertools.pairwise(told))


@contextmanager
def sent_to_and_fro(settings: Settings) -> Iterator[None]:
    """As fast as the worker can follow, and then everywhere for good."""
    ended = threading.Event()

    def send() -> None:
        with record_of(settings) as record:
            for errand in itertools.cycle(ERRANDS):
                record.ask(HELPER, *errand)
                if ended.wait(0.02):
                    break
            record.ask(HELPER, *ERRANDS[0], *ERRANDS[1])

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        ended.set()
        sending.join()


def submitted(record: Record, count: int) -> list[Job]:
    broker = Broker(record.settings.redis_url.get_secret_value())
    jobs = []
    pools = itertools.cycle(4 * [Pool.GPU] + [Pool.CPU])
    for _, priority, pool in zip(range(count), itertools.cycle(Priority), pools, strict=False):
        job = record.jobs.submit(new_job(pool=pool, lane=Lane.BULK, priority=priority)).job
        broker.publish(job.id, job.publish_seq, job.queue)
        jobs.append(job)
    broker.close()
    return jobs


@pytest.mark.parametrize("ack_emulation", ["true", "false"])
def test_nothing_is_lost_or_doubled_by_joining_and_leaving(
    settings: Settings, tmp_path: Path, ack_emulation: str
) -> None:
    common = {"BROKER_ACK_EMULATION": ack_emulation, "WORKER_STUCK_S": "8"}
    gpu = {"WORKER_NAME": "gpu-1", "INFERENCE_DEVICE": "simulated-gpu", "WORKER_CONCURRENCY": "1"}
    cpu = {"WORKER_NAME": HELPER, "WORKER_CONCURRENCY": "2", **HASTY}
    log = tmp_path / "cpu" / "worker.log"
    with (
        record_of(settings) as record,
        worker_process(settings, tmp_path / "gpu", **common, **gpu),
        worker_process(settings, tmp_path / "cpu", module="tests.support.hasty_worker", **common, **cpu) as helper,
    ):
        jobs: list[Job] = []
        with sent_to_and_fro(settings):
            while len(jobs) < JOBS or switches(log) < SWITCHES:
                batch = submitted(record, 20)
                wait_for(record.jobs, batch[0].id)
                jobs += batch
        ended = [wait_for(record.jobs, job.id) for job in jobs]
        assert helper.poll() is None
    assert {(job.state, job.attempt, job.losses, len(job.history)) for job in ended} == {(JobState.SUCCEEDED, 1, 0, 0)}
    ran_on = [job.ran_on.worker for job in ended if job.ran_on and job.queue.startswith("gpu")]
    assert set(ran_on) == {"gpu-1", HELPER}, "both took part"
    assert switches(log) >= SWITCHES
