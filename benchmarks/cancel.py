"""How fast a running inference stops: from the cancel's answer to the record that says `cancelled`.

    make bench-cancel            (ARGS="--cancels 50")

The model is one graph of thousands of matrix products, so each of its runs takes minutes and can only end through
ONNX Runtime's own terminate flag. A job is submitted, its run is given a moment, it is cancelled, and the record is
looked at every two milliseconds. All cancels meet the same process and the same loaded model. Beside it, in the same
run, the part that no software around it can make shorter: how long the bare session takes to obey the flag.
"""

import argparse
import random
import shutil
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from cli.stack import Stack
from fleet.contracts import JobState
from fleet.database import Database
from fleet.ids import new_id
from fleet.jobs import JobStore

NODES = 20_000
SIDE = 256
BODY = {"model": "long", "params": {"values": [1.0] * SIDE}}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cancels", type=int, default=50)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        graph = make_model(models / "long")
        shutil.copytree("models/echo", models / "echo")
        bare = [bare_terminate(graph) for _ in range(10)]
        with Stack(Path(folder) / "data", workers=1, models=models) as stack:
            waits = cancels(stack, chosen.cancels)
            loads = stack.layout.log("worker-1-bulk").read_text("utf-8").count("model loaded")
    print(f"{'':44}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    row(f"{len(waits)} cancels, until the record says cancelled", waits)
    row("the bare session, from flag to end", bare)
    print(f"times that the model was loaded: {loads}")


def make_model(folder: Path, length: int = NODES, lane: str = "bulk") -> Path:
    """The echo of a chain of products that nothing can fold: each factor hangs on the input."""
    weight = numpy_helper.from_array(np.eye(SIDE, dtype=np.float32), "w")
    nodes = [
        helper.make_node("Unsqueeze", ["x", "zero"], ["row"]),
        helper.make_node("Expand", ["row", "shape"], ["m0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"m{number}", "w"], [f"m{number + 1}"]) for number in range(length)]
    nodes += [helper.make_node("ReduceMean", [f"m{length}", "zero"], ["y"], keepdims=0)]
    constants = [
        weight,
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([SIDE, SIDE], np.int64), "shape"),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIDE]) for name in ("x", "y")]
    made = helper.make_graph(nodes, "long", tensors[:1], tensors[1:], constants)
    path = folder / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    (folder / "model.yaml").write_text(f"task: echo\nlane: {lane}\nonnx: {{graph_optimization: 'off'}}\n", "utf-8")
    return path


def bare_terminate(graph: Path, after_s: float = 0.3) -> float:
    """Seconds from setting the flag of a running session to the end of its run."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    run_options, set_at = ort.RunOptions(), 0.0

    def terminate() -> None:
        nonlocal set_at
        time.sleep(after_s)
        set_at = time.perf_counter()
        run_options.terminate = True

    thread = threading.Thread(target=terminate)
    thread.start()
    with suppress(Exception):
        session.run(None, {"x": np.ones(SIDE, np.float32)}, run_options)
        raise SystemExit("the run ended by itself: raise NODES")
    ended_at = time.perf_counter()
    thread.join()
    return ended_at - set_at


def cancels(stack: Stack, count: int) -> list[float]:
    """Seconds per cancel."""
    chance = random.Random(0)
    waits = []
    with (
        httpx.Client(base_url=stack.url, timeout=30, trust_env=False) as http,
        Database(stack.settings().database_dsn) as database,
    ):
        jobs = JobStore(database)
        for _ in range(count):
            job_id = submit(http)
            wait_for(lambda job_id=job_id: jobs.get(job_id).stage == "infer")
            # At any moment between two looks of the lease keeper.
            time.sleep(0.2 + chance.random())
            http.post(f"/api/v1/jobs/{job_id}/cancel").raise_for_status()
            began = time.perf_counter()
            wait_for(lambda job_id=job_id: jobs.get(job_id).state.ended)
            waits.append(time.perf_counter() - began)
            ended = jobs.get(job_id)
            if ended.state is not JobState.CANCELLED:
                raise SystemExit(f"a job ended as {ended.state.value}: {ended.error}")
    return waits


def submit(http: httpx.Client) -> Any:
    answer = http.post("/api/v1/jobs", json=BODY, headers={"Idempotency-Key": str(new_id())}).raise_for_status()
    return answer.json()["id"]


def wait_for(holds: Any, limit_s: float = 60.0) -> None:
    give_up_at = time.perf_counter() + limit_s
    while not holds():
        if time.perf_counter() > give_up_at:
            raise SystemExit(f"not within {limit_s:.0f} s")
        time.sleep(0.002)


def row(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{name:44}{1000 * p50:>9.0f}{1000 * p99:>9.0f}{1000 * ordered[-1]:>9.0f}")


if __name__ == "__main__":
    main()
