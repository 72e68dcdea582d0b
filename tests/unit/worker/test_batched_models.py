"""A loaded model's `batched`, with real graphs: who is batched, what is counted, and which graphs never are."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fleet.errors import ValidationFailed
from fleet.settings import CPU_PROVIDER
from worker.contract import Array
from worker.engine.loaded import LoadedModel
from worker.engine.manifest import Batching, Manifest
from worker.engine.model_folder import ModelVersion
from worker.engine.session import Session, SessionSetup
from worker.stop import StopReason, StopToken
from worker.tasks import find_tasks

SETUP = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)


class Counted:
    def __init__(self) -> None:
        self.runs: list[tuple[str, int, int]] = []
        self.waits = 0

    def ran(self, name: str, version: int, items: int, seconds: float) -> None:
        self.runs.append((name, version, items))

    def waited(self, name: str, version: int, seconds: float) -> None:
        self.waits += 1


def save(folder: Path, nodes: list[Any], first: str | int = "n", weights: dict[str, Array] | None = None) -> None:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [first, 4])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [first, 4])
    kept = [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()]
    graph = helper.make_graph(nodes, "model", [x], [y], kept)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )


def loaded(folder: Path, watch: Counted | None = None, **batching: Any) -> LoadedModel:
    task = find_tasks()["echo"]
    manifest = Manifest(task="echo", batching=Batching(**batching))
    version = ModelVersion("m", 1, folder, manifest, task, task.Settings())
    session = Session(folder / "model.onnx", SETUP)
    return LoadedModel(version, session, SETUP, watch=watch) if watch else LoadedModel(version, session, SETUP)


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    save(tmp_path, [helper.make_node("Add", ["x", "x"], ["y"])])
    return tmp_path


def ones(rows: int) -> dict[str, Array]:
    return {"x": np.ones((rows, 4), np.float32)}


def test_job_knows_the_largest_batch_that_its_rows_were_part_of(doubled: Path) -> None:
    watch = Counted()
    model = loaded(doubled, watch, max_batch_size=8, dynamic=True, preferred=[5], max_delay_ms=60_000)
    jobs = [model.for_run(StopToken()) for _ in range(2)]
    threads = [threading.Thread(target=job.batched, args=(ones(rows),)) for job, rows in zip(jobs, (2, 3), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [job.batch_size for job in jobs] == [5, 5]
    assert watch.runs == [("m", 1, 5)]
    assert watch.waits == 2


def test_runs_of_a_model_without_batches_are_counted_as_one_item(doubled: Path) -> None:
    watch = Counted()
    job = loaded(doubled, watch).for_run(StopToken())
    np.testing.assert_array_equal(job.batched(ones(3))["y"], 2 * np.ones((3, 4)))
    assert watch.runs == [("m", 1, 1)]
    assert job.batch_size == 1


def test_batch_of_one_request_counts_its_rows_where_requests_are_not_joined(doubled: Path) -> None:
    watch = Counted()
    job = loaded(doubled, watch, max_batch_size=4).for_run(StopToken())
    job.batched(ones(3))
    assert watch.runs == [("m", 1, 3)]
    assert job.batch_size == 3
    with pytest.raises(ValidationFailed, match="batch of 5"):
        job.batched(ones(5))


def test_graph_with_a_fixed_first_axis_is_not_batched_and_says_why(tmp_path: Path) -> None:
    save(tmp_path, [helper.make_node("Add", ["x", "x"], ["y"])], first=1)
    model = loaded(tmp_path, max_batch_size=8, dynamic=True)
    assert model.batcher is not None
    assert model.batcher.fault is not None
    assert "'x' is [1, 4]: its first axis must be free" in model.batcher.fault.message
    np.testing.assert_array_equal(model.for_run(StopToken()).batched(ones(1))["y"], 2 * np.ones((1, 4)))


def test_graph_that_takes_one_scale_from_all_rows_is_not_batched(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    save(tmp_path, nodes)
    model = loaded(tmp_path, max_batch_size=8, dynamic=True)
    assert model.batcher is not None
    assert model.batcher.fault is not None
    assert "quantised dynamically" in model.batcher.fault.message


def test_set_token_calls_back_once_and_at_once_when_it_was_set_before() -> None:
    stop, calls = StopToken(), []
    with stop.calling(lambda: calls.append("during")):
        stop.set(StopReason.CANCELLED)
    with stop.calling(lambda: calls.append("before")):
        pass
    stop.set(StopReason.DRAINED)
    assert calls == ["during", "before"]
