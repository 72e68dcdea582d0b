"""Many clients of one small model: what batching reaches of the bare runtime, in process and through the whole fleet.

    make bench-batcher            (ARGS="--model network --clients 8 64 --seconds 5")

Each client sends one item and waits for its answer before the next. The bound is a loop around `session.run` with
nobody else at the best fixed batch, found by a sweep in the same run. The engine is the worker's, in this process, with
one thread per client; its share is the median of rounds in which the bound is measured right before it, at the best
batch that so many clients can fill. The fleet is a
stack as `fleet up` starts it, asked over kept HTTP connections by a process of its own (`POST /api/v1/jobs` with
`Prefer: wait`), on the same cores: servers, api, worker and clients share them.

Models: `perceptron`, four dense layers (39 million weights, read from memory once a run, however many items);
`network`, convolutions on 3 × 64 × 64 whose cost is that of its items; both made here, with random weights.
"""

import argparse
import base64
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
import psutil
from onnx import helper, numpy_helper

from cli.stack import Stack
from fleet.cpus import usable_cpus
from fleet.settings import CPU_PROVIDER
from fleet.tensors import MEDIA_TYPE, TASK_NAME, Blob, DataType, pack
from worker.contract import Array
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.stop import StopToken
from worker.tasks import find_tasks

SHAPES = {"perceptron": (784,), "network": (3, 64, 64)}
SWEEP = (1, 2, 4, 8, 16, 32, 64)
BAR = 0.9
WARM_UP_S = 0.5
STAGES = ("queue", "load", "fetch", "decode", "prepare", "infer", "finish", "encode", "store")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", choices=sorted(SHAPES), action="append")
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64])
    options.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    options.add_argument("--rounds", type=int, default=3, help="of bound and engine side by side")
    options.add_argument("--concurrency", type=int, default=0, help="WORKER_CONCURRENCY of the fleet; 0: its default")
    options.add_argument("--only", choices=["engine", "fleet"])
    chosen = options.parse_args()
    for kind in chosen.model or list(SHAPES):
        with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
            models = Path(folder) / "models"
            make_model(models / kind, kind, most=SWEEP[-1])
            print(f"\n{kind}: {usable_cpus()} cores")
            if chosen.only != "fleet":
                compare(models / kind, chosen.clients, chosen.seconds, chosen.rounds)
            if chosen.only != "engine":
                environment = {"WORKER_CONCURRENCY": str(chosen.concurrency)}
                with Stack(Path(folder) / "data", workers=1, port=0, models=models, environment=environment) as stack:
                    through_the_fleet(stack, kind, chosen.clients, chosen.seconds)


def make_model(folder: Path, kind: str, most: int) -> None:
    """Writes a model folder whose batches have at most so many rows."""
    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Any:
        spread = 1 / np.sqrt(np.prod(shape) / shape[-1 if kind == "perceptron" else 0])
        return numpy_helper.from_array((generator.standard_normal(shape) * spread).astype(np.float32), name)

    node = helper.make_node
    if kind == "perceptron":
        sizes = [784, 4096, 4096, 4096, 512]
        weights = [weight(f"w{n}", *sizes[n : n + 2]) for n in range(4)]
        nodes = []
        for n in range(4):
            nodes += [node("MatMul", ["x" if n == 0 else f"h{n}", f"w{n}"], [f"m{n}"])]
            nodes += [node("Relu", [f"m{n}"], ["y" if n == 3 else f"h{n + 1}"])]
    else:
        channels = [3, 48, 96, 128, 128]
        weights = [weight(f"w{n}", channels[n + 1], channels[n], 3, 3) for n in range(4)]
        nodes = []
        for n in range(4):
            inputs = ["x" if n == 0 else f"h{n}", f"w{n}"]
            stride = [1, 1] if n == 0 else [2, 2]
            nodes += [
                node("Conv", inputs, [f"m{n}"], pads=[1] * 4, strides=stride),
                node("Relu", [f"m{n}"], [f"h{n + 1}"]),
            ]
        nodes += [node("GlobalAveragePool", ["h4"], ["p"]), node("Flatten", ["p"], ["y"])]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", *SHAPES[kind]])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 512 if kind == "perceptron" else 128])
    made = helper.make_graph(nodes, kind, [x], [y], weights)
    (folder / "1").mkdir(parents=True)
    graph = folder / "1" / "model.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), graph)
    about = {"task": TASK_NAME, "lane": "interactive", "batching": {"max_batch_size": most, "dynamic": True}}
    (folder / "model.yaml").write_text(json.dumps(about), "utf-8")


def compare(folder: Path, clients: Sequence[int], seconds: float, rounds: int) -> None:
    """The bound, and the engine beside it; `cpu ms` are those of this process per item."""
    (version,) = read_versions(folder, find_tasks())
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=usable_cpus(), spin=False)
    session = Session(version.graph, setup)
    shape = SHAPES[version.name]
    heads = f"{'items/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>10}"
    print(f"  {'bare session.run, batch':34}{heads}")
    bounds = {}
    for batch in SWEEP:
        feed = {"x": np.zeros((batch, *shape), np.float32)}
        load = closed_loop([partial(run_alone, session, feed)], seconds / 2)
        bounds[batch] = load.rate * batch
        load.show(f"{batch}", items=batch)
    best = max(bounds, key=lambda batch: bounds[batch])
    print(f"  the bound: {bounds[best]:.0f} items/s in batches of {best}")
    print(f"  {'engine in process, clients':34}{heads}{'of bound':>10}{'mean batch':>12}")
    limited = version.manifest.batching.model_copy(update={"max_batch_size": best})
    manifest = version.manifest.model_copy(update={"batching": limited})
    for count in clients:
        reach = max((batch for batch in SWEEP if batch <= count), key=lambda batch: bounds[batch])
        fixed = {"x": np.zeros((reach, *shape), np.float32)}
        runs, loads, shares = Runs(), [], []
        model = LoadedModel(replace(version, manifest=manifest), session, setup, watch=runs)
        calls = [engine_call(model, shape, number) for number in range(count)]
        for _ in range(rounds):
            # Side by side, so that whatever else the machine does falls on both.
            bare = closed_loop([partial(run_alone, session, fixed)], seconds / 2)
            loads.append(closed_loop(calls, seconds / 2))
            shares.append(loads[-1].rate / (bare.rate * reach))
        share = statistics.median(shares)
        verdict = "" if count < 32 else "  ok" if share >= BAR else f"  below {BAR:.0%}"
        Load.together(loads).show(f"{count}", end=f"{share:>10.0%}{runs.mean:>12.1f}{verdict}")


def run_alone(session: Session, feed: dict[str, Array]) -> None:
    session.run(feed, StopToken())


class Runs:
    """As `worker.engine.run_watch.RunWatch`."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    @property
    def mean(self) -> float:
        return statistics.mean(self.rows)

    def ran(self, name: str, version: int, items: int, seconds: float) -> None:
        self.rows.append(items)

    def waited(self, name: str, version: int, seconds: float) -> None:
        pass


def engine_call(model: LoadedModel, shape: tuple[int, ...], seed: int) -> Callable[[], object]:
    feed = {"x": np.random.default_rng(seed).standard_normal((1, *shape)).astype(np.float32)}
    return lambda: model.for_run(StopToken()).batched(feed)


@dataclass
class Load:
    """What clients saw: seconds of each answer, and whatever they noted of it."""

    wall_s: float = 0.0
    #: Of this process.
    cpu_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    notes: list[Any] = field(default_factory=list)

    @classmethod
    def together(cls, loads: Sequence["Load"]) -> "Load":
        return cls(
            sum(load.wall_s for load in loads),
            sum(load.cpu_s for load in loads),
            [took for load in loads for took in load.seconds],
        )

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.wall_s

    def at(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def show(self, title: str, *, items: int = 1, end: str = "") -> None:
        cost = f"{1000 * self.cpu_s / (len(self.seconds) * items):>10.3f}" if self.cpu_s else ""
        print(f"  {title:34}{self.rate * items:>10.0f}{self.at(0.5):>9.2f}{self.at(0.99):>9.2f}{cost}{end}")


def closed_loop(calls: Sequence[Callable[[], object]], seconds: float) -> Load:
    """Each call again and again in a thread of its own; what ended in the first half second is not counted."""
    load, lock = Load(), threading.Lock()
    begins = time.perf_counter() + WARM_UP_S
    ends = begins + seconds

    def client(call: Callable[[], object]) -> None:
        mine, notes = [], []
        while (began := time.perf_counter()) < ends:
            note = call()
            ended = time.perf_counter()
            if begins <= ended < ends:
                mine.append(ended - began)
                notes.append(note)
        with lock:
            load.seconds += mine
            load.notes += notes

    threads = [threading.Thread(target=client, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, begins - time.perf_counter()))
    used_s = time.process_time()
    time.sleep(max(0.0, ends - time.perf_counter()))
    load.cpu_s = time.process_time() - used_s
    for thread in threads:
        thread.join()
    load.wall_s = seconds
    return load


def through_the_fleet(stack: Stack, kind: str, clients: Sequence[int], seconds: float) -> None:
    rows, costs = defaultdict(list), defaultdict(list)
    heads = f"{'items/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'client':>10}"
    print(f"  {'the fleet over HTTP, clients':34}{heads}{'mean batch':>12}")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as elsewhere:
        for count in clients:
            before = used_s(stack)
            load: Load = elsewhere.submit(asked_by, stack.url, kind, count, seconds).result()
            load.show(f"{count}", end=f"{statistics.mean(batch for _, batch in load.notes):>12.1f}")
            for name in STAGES:
                rows[name].append(1000 * statistics.median(times.get(name, 0.0) for times, _ in load.notes))
            inside = [sum(times.values()) for times, _ in load.notes]
            rest = (took - within for took, within in zip(load.seconds, inside, strict=True))
            rows["not in any stage"].append(1000 * statistics.median(rest))
            for name, spent_s in used_s(stack).items():
                # Warming up is in it, too, and its requests.
                costs[name].append(1000 * (spent_s - before[name]) / (load.rate * (seconds + WARM_UP_S)))
    print(f"  {'of it, p50 ms, with clients':34}" + "".join(f"{count:>10}" for count in clients))
    for name, times in rows.items():
        print(f"    {name:32}" + "".join(f"{time_ms:>10.2f}" for time_ms in times))
    print("  processor, ms a request")
    for name, times in costs.items():
        print(f"    {name:32}" + "".join(f"{time_ms:>10.2f}" for time_ms in times))


def used_s(stack: Stack) -> dict[str, float]:
    """Seconds of processor of each part of the stack so far, with the processes that it has started."""
    spent = {}
    for name, pid in stack.pids.items():
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        spent[name] = sum(sum(process.cpu_times()[:2]) for process in family)
    return spent


def asked_by(url: str, kind: str, count: int, seconds: float) -> Load:
    """In a process of its own: so many clients; notes the job's stages and batch size."""
    address = urlsplit(url).netloc
    return closed_loop([fleet_call(address, kind, number) for number in range(count)], seconds)


def fleet_call(address: str, kind: str, seed: int) -> Callable[[], tuple[dict[str, float], int]]:
    values: Array = np.random.default_rng(seed).standard_normal((1, *SHAPES[kind])).astype(np.float32)
    bundle = pack([Blob("x", DataType.FP32, values.shape, values.tobytes())])
    item = {"data": base64.b64encode(bundle).decode(), "media_type": MEDIA_TYPE}
    body = json.dumps({"model": kind, "task": TASK_NAME, "inputs": [item]})
    headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
    connection = http.client.HTTPConnection(address, timeout=90)

    def call() -> tuple[dict[str, float], int]:
        connection.request("POST", "/api/v1/jobs", body, headers)
        job = json.loads(connection.getresponse().read())
        if job.get("state") != "succeeded":
            raise SystemExit(f"a job did not succeed: {job}")
        return job["timings"], job["ran_on"]["batch_size"]

    return call


if __name__ == "__main__":
    main()
