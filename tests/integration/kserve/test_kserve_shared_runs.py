"""Requests of many clients meet in the worker: several jobs, one run, and to each the rows that are its own."""

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from threading import Barrier
from uuid import UUID

import httpx
import numpy as np
import pytest
from onnx import TensorProto

from tests.support.triton_repository import save_graph
from tests.support.triton_stack import Stack
from tests.support.waiting import eventually

CLIENTS = 12
#: A batch that is not full waits so long for company: ample for requests that were sent in the same moment.
DELAYED = "max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 1000000 }\n"


@pytest.fixture
def doubling(stack: Stack, tmp_path: Path) -> str:
    """The path of a model's inference: y = x + x."""
    made = tmp_path / "doubling"
    x, y = (TensorProto.FLOAT, ("n", 4)), (TensorProto.FLOAT, ("n", 4))
    save_graph(made / "1" / "model.onnx", [("Add", ["x", "x"], ["y"])], {"x": x}, {"y": y})
    (made / "config.pbtxt").write_text(DELAYED)
    # All at once: the worker looks at its folder every second.
    made.rename(stack.models / "doubling")
    eventually(lambda: stack.door.http.get("/v2/models/doubling/ready").status_code == HTTPStatus.OK)
    return "/v2/models/doubling/infer"


def test_concurrent_requests_of_many_clients_share_runs(stack: Stack, doubling: str) -> None:
    together = Barrier(CLIENTS)

    def ask(number: int) -> httpx.Response:
        row = [number + 0.25 * column for column in range(4)]
        together.wait()
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}]}
        return stack.door.http.post(doubling, json=body)

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(ask, range(CLIENTS)))
    for number, answer in enumerate(answers):
        assert answer.status_code == HTTPStatus.OK, answer.text
        expected = 2 * (number + 0.25 * np.arange(4))
        assert answer.json()["outputs"][0]["data"] == expected.tolist(), "the rows are the request's own"

    jobs = [stack.door.core.jobs.get(UUID(answer.headers["fleet-job-id"])) for answer in answers]
    assert len({job.id for job in jobs}) == CLIENTS
    sizes = [job.ran_on.batch_size for job in jobs if job.ran_on is not None]
    assert len(sizes) == CLIENTS
    assert max(sizes) > 1
    assert max(sizes) <= 8, "no more than the model allows"

    def ran() -> bool:
        stats = stack.door.http.get("/v2/models/doubling/stats").json()["model_stats"][0]
        return bool(0 < stats["execution_count"] < stats["inference_count"] == CLIENTS)

    eventually(ran)
