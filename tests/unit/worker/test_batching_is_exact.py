"""Batches give what unbatched runs give: real sessions, random interleavings, shapes, row counts and cancellations.

Bit for bit where the arithmetic leaves no choice (element by element, row by row, and sums of small whole numbers,
which are exact in whatever order); within rounding where a kernel may be chosen by the batch's size.
"""

import random
import threading
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from fleet.contracts import Priority
from fleet.errors import FleetError, RunStopped
from fleet.settings import CPU_PROVIDER
from worker.contract import Array
from worker.engine.batcher import Batcher
from worker.engine.manifest import Batching
from worker.engine.session import Session, SessionSetup
from worker.stop import StopReason, StopToken

MOST = 8


def loaded(nodes: list[Any], constants: dict[str, Array], shape: list[Any]) -> Session:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", *shape])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "batched", [x], [y], weights)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return Session(path, SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False))


def random_weights(*shape: int, whole: bool = False) -> Array:
    generator = np.random.default_rng(1)
    return generator.integers(-3, 4, shape) if whole else generator.standard_normal(shape)


@cache
def session_of(kind: str) -> Session:
    node = helper.make_node
    dense = [node("MatMul", ["x", "w"], ["y"])]
    network = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("GlobalAveragePool", ["b"], ["c"]),
        node("Flatten", ["c"], ["d"]),
        node("Gemm", ["d", "v"], ["y"]),
    ]
    graphs = {
        "rows": lambda: loaded([node("Sigmoid", ["x"], ["a"]), node("Softmax", ["a"], ["y"], axis=-1)], {}, ["width"]),
        "whole numbers": lambda: loaded(dense, {"w": random_weights(16, 24, whole=True)}, ["length", 16]),
        "products": lambda: loaded(dense, {"w": random_weights(16, 24)}, ["length", 16]),
        "network": lambda: loaded(
            network, {"w": random_weights(16, 3, 3, 3), "v": random_weights(16, 10)}, [3, "height", 16]
        ),
    }
    return graphs[kind]()


def feed_of(kind: str, rows: int, size: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    match kind:
        case "rows":
            return generator.standard_normal((rows, size)).astype(np.float32)
        case "network":
            return generator.standard_normal((rows, 3, size, 16)).astype(np.float32)
    shape = (rows, size, 16)
    whole = kind == "whole numbers"
    return (generator.integers(-9, 10, shape) if whole else generator.standard_normal(shape)).astype(np.float32)


#: Of a call: rows, the free size, its priority, who of six threads makes it, and whether it is cancelled meanwhile.
CALLS = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 2, 3, MOST]),
        st.sampled_from([4, 4, 7]),
        st.sampled_from(list(Priority)),
        st.integers(0, 5),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=12,
    max_size=40,
)
BATCHING = st.builds(
    Batching,
    max_batch_size=st.just(MOST),
    dynamic=st.just(True),
    preferred=st.sampled_from([[], [2], [4, 8]]),
    max_delay_ms=st.sampled_from([0.0, 0.0, 1.0]),
    instances=st.integers(1, 2),
)


def outcomes(kind: str, calls: list[tuple[int, int, Priority, int, bool]], batching: Batching, seed: int) -> list[Any]:
    """Each call's feed and what became of it."""
    session = session_of(kind)
    chance = random.Random(seed)

    def run(feeds: Any, stop: StopToken) -> dict[str, Array]:
        # Long enough for others to arrive meanwhile.
        stop.wait(chance.random() * 0.004)
        return session.run(feeds, stop)

    batcher = Batcher(run, batching, model="m/1")
    results: list[Any] = [None] * len(calls)
    stops = [StopToken() for _ in calls]

    def work(thread: int) -> None:
        for number, (rows, size, priority, owner, _) in enumerate(calls):
            if owner != thread:
                continue
            feed = feed_of(kind, rows, size, number)
            try:
                results[number] = feed, batcher.run({"x": feed}, stops[number], priority)
            except FleetError as error:
                results[number] = feed, error

    def cancel() -> None:
        for number, call in enumerate(calls):
            if call[-1]:
                time.sleep(chance.random() * 0.002)
                stops[number].set(StopReason.CANCELLED)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    threads.append(threading.Thread(target=cancel))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert batcher.fault is None
    return results


@pytest.mark.parametrize("kind", ["rows", "whole numbers"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls=CALLS, batching=BATCHING, seed=st.integers(0, 1000))
def test_batched_rows_are_bit_for_bit_those_of_unbatched_runs(
    kind: str, calls: list[tuple[int, int, Priority, int, bool]], batching: Batching, seed: int
) -> None:
    for call, (feed, outcome) in zip(calls, outcomes(kind, calls, batching, seed), strict=True):
        if isinstance(outcome, RunStopped):
            assert call[-1]
            continue
        alone = session_of(kind).run({"x": feed}, StopToken())["y"]
        np.testing.assert_array_equal(outcome.outputs["y"], alone, strict=True)
        assert len(feed) <= outcome.batch_size <= MOST


@pytest.mark.parametrize("kind", ["products", "network"])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls=CALLS, batching=BATCHING, seed=st.integers(0, 1000))
def test_batched_rows_are_those_of_unbatched_runs_up_to_rounding(
    kind: str, calls: list[tuple[int, int, Priority, int, bool]], batching: Batching, seed: int
) -> None:
    for call, (feed, outcome) in zip(calls, outcomes(kind, calls, batching, seed), strict=True):
        if isinstance(outcome, RunStopped):
            assert call[-1]
            continue
        alone = session_of(kind).run({"x": feed}, StopToken())["y"]
        np.testing.assert_allclose(outcome.outputs["y"], alone, rtol=1e-5, atol=1e-5, strict=True)
