"""A file of a million texts as one job: what it takes besides the model, with its worker killed in the middle or not.

The model is one of a few operations whose vectors have 384 numbers, so nearly all of the time is Fleet's own: reading,
tokenising, sorting, keeping parts, writing and storing 1.5 GB. Real servers, one worker as a process of its own.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import numpy as np
import psutil

from fleet.broker import Broker
from fleet.contracts import Job, JobInput, JobState, ObjectRef
from fleet.ids import new_id
from fleet.objects import ObjectStore, upload_key
from fleet.outbox import Outbox
from fleet.settings import Settings
from tests.support.fleet_of_one import new_job, submit, worker_process
from tests.support.servers import running_servers
from tests.support.sweeping import Sweeping, sweeping_of
from tests.support.tiny_embedder import MODEL, VOCABULARY, WORDS, make_model

MIB = 1024**2
WIDTH = 384


@dataclass
class Peak:
    rss_bytes: int = 0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=int, default=1_000_000)
    chosen = options.parse_args()
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="fleet-bulk-")))
        settings = opened.enter_context(opened.enter_context(running_servers(folder / "servers")).fresh())
        scene = opened.enter_context(sweeping_of(settings))
        table = np.random.default_rng(1).normal(size=(len(VOCABULARY), WIDTH)).astype(np.float32)
        batching = {"max_batch_size": 256, "dynamic": True, "instances": 0}
        make_model(folder / "models", table=table, batching=batching, onnx={"intra_op_threads": 1})
        texts = _texts(scene.objects, folder, chosen.texts)
        print(f"{chosen.texts:,} texts, {texts.size / MIB:.0f} MiB of JSON lines")
        whole, _ = _measured(settings, scene, folder, texts, kill=False)
        resumed, _ = _measured(settings, scene, folder, texts, kill=True)
        same = [[one.object.sha256 for one in job.artifacts] for job in (whole, resumed)]
        print(f"the same files to the bit: {same[0] == same[1]}")


def _texts(objects: ObjectStore, folder: Path, count: int) -> ObjectRef:
    chance = np.random.default_rng(2)
    path = folder / "texts.jsonl"
    with path.open("w") as file:
        for _ in range(count):
            file.write(json.dumps(" ".join(chance.choice(WORDS, chance.integers(1, 10)))) + "\n")
    key = upload_key("default", new_id(), path.name)
    return objects.put_file(key, path, media_type="application/jsonl", name=path.name)


def _measured(settings: Settings, scene: Sweeping, folder: Path, texts: ObjectRef, *, kill: bool) -> tuple[Job, float]:
    places = {"MODELS_PATH": str(folder / "models"), "WORKER_SCRATCH": str(folder / "scratch")}
    began, peak, lost = time.monotonic(), Peak(), ""
    new = new_job(MODEL, "text-embedding", inputs=[JobInput(object=texts)], execution_timeout_s=7200, deadline_s=7200)
    if kill:
        with worker_process(settings, folder / "worker", **places) as process:
            job = submit(settings, scene.jobs, new)
            while scene.jobs.get(job.id).progress < 0.5:
                time.sleep(0.05)
            process.kill()
            process.wait()
        kept = _kept(scene, job)
        scene.database.run("update job set lease_until = clock_timestamp() where id = %(id)s", {"id": job.id})
        (job,) = Outbox(scene.database).lapse_leases()
        lost = f", killed with {kept} parts kept"
    with worker_process(settings, folder / "worker", **places) as process, _watched(process, peak):
        taken = time.monotonic()
        job = submit(settings, scene.jobs, new) if not kill else _ring(settings, job)
        while not (job := scene.jobs.get(job.id)).state.ended:
            time.sleep(0.1)
    seconds = time.monotonic() - taken
    if job.state is not JobState.SUCCEEDED:
        raise SystemExit(f"the job {job.state.value}: {job.error}")
    rows = scene.database.run(
        "select attempt, count(*) as n from job_part where job_id = %(id)s group by 1 order by 1", {"id": job.id}
    )
    shares = ", ".join(f"attempt {row['attempt']}: {row['n']}" for row in rows)
    swept = time.monotonic()
    scene.sweeper.remove_parts()
    print(
        f"{'worker lost' if kill else 'in one go'}{lost}: last attempt {seconds:.1f} s, all "
        f"{time.monotonic() - began:.1f} s; parts kept by {shares}; peak memory of the worker "
        f"{peak.rss_bytes / MIB:,.0f} MiB; parts swept in {time.monotonic() - swept:.1f} s\n    "
        + ", ".join(f"{stage} {spent:.1f} s" for stage, spent in job.timings.items()),
        flush=True,
    )
    return job, seconds


def _kept(scene: Sweeping, job: Job) -> int:
    return len(scene.database.run("select 1 from job_part where job_id = %(id)s", {"id": job.id}))


def _ring(settings: Settings, job: Job) -> Job:
    broker = Broker(settings.redis_url.get_secret_value())
    broker.publish(job.id, job.publish_seq, job.queue)
    broker.close()
    return job


@contextmanager
def _watched(process: "Popen[bytes]", peak: Peak) -> Iterator[None]:
    """Looks at the worker's resident memory ten times a second."""
    done = threading.Event()

    def watch() -> None:
        seen = psutil.Process(process.pid)
        while not done.wait(0.1):
            peak.rss_bytes = max(peak.rss_bytes, seen.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
