"""A worker with little memory: refuses what can never fit, takes turns, lets waiting runs go, and serves on."""

import gzip
import re
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.contracts import Job, JobInput, JobState, Lane
from fleet.errors import DependencyError
from fleet.ids import new_id
from fleet.objects import ObjectStore, upload_key
from fleet.settings import Settings
from tests.support.bench import Bench, opened_bench
from tests.support.fleet_of_one import job_store, new_job, submit, wait_for, worker_process
from tests.support.media_files import nifti
from worker.memory.budget import Holding
from worker.memory.limit import MIB, held_bytes, started_by, used_bytes

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
#: The model runs once over 128³, whatever the volume's size.
ONE_PASS = {"mirror": False, "preview": False}


def stored(objects: ObjectStore, data: bytes) -> JobInput:
    key = upload_key("default", new_id(), "scan.nii.gz")
    return JobInput(object=objects.put_bytes(key, data, media_type="application/octet-stream", name="scan.nii.gz"))


def small_scan() -> bytes:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, 24),) * 3, indexing="ij")
    ball = (1000 * (x * x + y * y + z * z < 0.6)).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        return nifti(Path(folder) / "scan.nii.gz", ball, np.diag([8.0, 8.0, 8.0, 1.0])).read_bytes()


def claiming(size: tuple[int, int, int]) -> bytes:
    """A scan whose header says that it is of this size."""
    head = bytearray(gzip.decompress(small_scan()))
    struct.pack_into("<8h", head, 40, 3, *size, 1, 1, 1, 1)
    return gzip.compress(bytes(head))


def scan_job(objects: ObjectStore, data: bytes, **params: Any) -> dict[str, Any]:
    return {
        "model": "brain-extraction",
        "task": "segmentation",
        "lane": Lane.BULK,
        "params": ONE_PASS | params,
        "inputs": [stored(objects, data)],
    }


def test_a_volume_too_large_for_the_worker_is_refused_and_the_next_job_runs(settings: Settings, tmp_path: Path) -> None:
    objects = ObjectStore(settings)
    limit = 1200 * MIB
    with worker_process(settings, tmp_path, WORKER_MEMORY_BYTES=str(limit)) as process, job_store(settings) as jobs:
        too_large = new_job(**scan_job(objects, claiming((900, 900, 700))))
        ended = wait_for(jobs, submit(settings, jobs, too_large).id)
        assert ended.state is JobState.FAILED
        assert ended.error is not None
        assert (ended.error.code, ended.error.retryable, ended.attempt) == ("not-enough-memory", False, 1)
        assert ended.error.message.startswith(
            "reading 900 × 900 × 700 voxels of int16 would take an estimated 2.19 GiB"
        )
        assert "1.17 GiB by WORKER_MEMORY_BYTES" in ended.error.message
        assert ended.error.facts["limit_bytes"] == limit
        with HighestUse(process.pid) as seen:
            fits = submit(settings, jobs, new_job(**scan_job(objects, small_scan())))
            ended = wait_for(jobs, fits.id, timeout_s=120)
        assert ended.state is JobState.SUCCEEDED, ended.error
        assert max(seen) < limit
        assert wait_for(jobs, submit(settings, jobs, new_job()).id).state is JobState.SUCCEEDED
        assert process.poll() is None
    log = (tmp_path / "worker.log").read_text()
    assert '"event":"memory budget"' in log.replace('": ', '":')
    assert log.count("model weighed") == 1, "the guess was too much for this worker, the truth is not"


def test_volumes_that_fit_only_one_after_the_other_take_turns_inside_the_limit(
    settings: Settings, tmp_path: Path
) -> None:
    objects = ObjectStore(settings)
    limit = 1200 * MIB
    with (
        worker_process(settings, tmp_path, WORKER_MEMORY_BYTES=str(limit), WORKER_CONCURRENCY="2") as process,
        job_store(settings) as jobs,
        HighestUse(process.pid) as seen,
    ):
        both = [submit(settings, jobs, new_job(**scan_job(objects, small_scan()))) for _ in range(2)]
        ended = [wait_for(jobs, job.id, timeout_s=180) for job in both]
        assert [job.state for job in ended] == [JobState.SUCCEEDED] * 2
    assert max(seen) < limit
    assert re.search(r'"event": ?"waiting for memory"', (tmp_path / "worker.log").read_text())


class HighestUse:
    """What a process and its children hold, looked at all the time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen: list[int] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> list[int]:
        self._thread.start()
        return self._seen

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self._seen.append(sum(map(held_bytes, (self._pid, *started_by(self._pid)))))


@pytest.fixture
def tight(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    """A worker in this process that may use 1200 MiB more than the process has."""
    limit = used_bytes() + 1200 * MIB
    with opened_bench(settings.model_copy(update={"worker_memory_bytes": limit}), tmp_path / "scratch") as opened:
        yield opened


def eventually_waiting(bench: Bench, count: int) -> None:
    give_up = time.monotonic() + 60
    while bench.process.memory.budget.waiting != count:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_waiting_run_is_cancelled_and_leaves_the_line(tight: Bench) -> None:
    budget, elsewhere = tight.process.memory.budget, Holding()
    assert budget.reserve(elsewhere, budget.most_bytes - 64 * MIB, "somebody's volume")
    job = tight.submit(**scan_job(tight.objects, small_scan()))
    thread = tight.start(job)
    eventually_waiting(tight, 1)
    running = tight.jobs.get(job.id)
    assert running.state is JobState.RUNNING
    tight.jobs.cancel(job.id, "default")
    thread.join(30)
    assert tight.jobs.get(job.id).state is JobState.CANCELLED
    assert (budget.waiting, budget.granted_bytes) == (0, elsewhere.bytes)
    budget.release(elsewhere)
    assert tight.run(tight.submit(**scan_job(tight.objects, small_scan()))).state is JobState.SUCCEEDED
    assert budget.granted_bytes == 0


def test_a_run_that_waited_has_its_whole_time_to_run(tight: Bench) -> None:
    budget, elsewhere = tight.process.memory.budget, Holding()
    budget.reserve(elsewhere, budget.most_bytes - 64 * MIB, "somebody's volume")
    job = tight.submit(**scan_job(tight.objects, small_scan()), execution_timeout_s=30.0)
    thread = tight.start(job)
    eventually_waiting(tight, 1)
    (held,) = tight.process.leases._held.values()
    before = held.ends_at
    time.sleep(0.5)
    budget.release(elsewhere)
    thread.join(60)
    ended = tight.jobs.get(job.id)
    assert ended.state is JobState.SUCCEEDED, ended.error
    assert held.ends_at - before > 0.2
    assert ended.timings["queue"] > 0.4


def test_memory_that_other_processes_hold_lets_the_job_be_tried_again(
    tight: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = tight.process.memory.budget
    monkeypatch.setattr(budget, "_free", lambda: 8 * MIB)
    monkeypatch.setattr(budget, "_patience_s", 0.2)
    job = tight.submit(**scan_job(tight.objects, small_scan()))
    after = tight.run(job)
    assert after.state is JobState.QUEUED
    assert after.error is not None
    assert after.error.code == "memory-busy"
    assert after.error.retryable == DependencyError.retryable


def test_a_failed_run_gives_its_memory_back(tight: Bench) -> None:
    broken = gzip.compress(gzip.decompress(small_scan())[:-1000])
    ended: Job = tight.run(tight.submit(**scan_job(tight.objects, broken)))
    assert ended.error is not None
    assert ended.error.code == "truncated-volume"
    assert tight.process.memory.budget.granted_bytes == 0


def test_what_a_worker_shows_of_its_memory(tight: Bench) -> None:
    measures, budget = tight.process.measures, tight.process.memory.budget

    def shown(name: str) -> float | None:
        return measures.registry.get_sample_value(f"fleet_worker_memory_{name}")

    held = Holding()
    budget.reserve(held, 32 * MIB, "a volume")
    assert shown("usable_bytes") == budget.limit.bytes - budget.limit.reserve_bytes
    assert shown("granted_bytes") == 32 * MIB
    assert shown("waiting_runs") == 0
    budget.release(held)
    tight.run(tight.submit(**scan_job(tight.objects, claiming((900, 900, 900)))))
    assert shown("refused_total") == 1


def test_small_jobs_do_not_ask(tight: Bench, jobs_seen: list[int]) -> None:
    assert tight.run(tight.submit()).state is JobState.SUCCEEDED
    jobs_seen.clear()
    assert tight.run(tight.submit()).state is JobState.SUCCEEDED
    assert jobs_seen == []


@pytest.fixture
def jobs_seen(tight: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    reserve = tight.process.memory.budget.reserve

    def recorded(mine: Holding, wanted: int, what: str) -> bool:
        seen.append(wanted)
        return reserve(mine, wanted, what)

    monkeypatch.setattr(tight.process.memory.budget, "reserve", recorded)
    return seen
