"""Triton's own Python client against a running stack: health, metadata, configuration, statistics, the repository."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.http import InferenceServerClient as Client
from tritonclient.utils import InferenceServerException

from tests.support.triton_stack import Stack
from tests.support.waiting import eventually


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.address, network_timeout=120) as opened:
        yield opened


def infer(client: Client, model: str = "add-sub", batch: int = 1, **more: Any) -> Any:
    inputs = [triton.InferInput(name, [batch, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    for given in inputs:
        given.set_data_from_numpy(np.ones((batch, 16), np.int32))
    return client.infer(model, inputs, **more).as_numpy("OUTPUT0")


def states(client: Client) -> dict[str, str]:
    return {f"{entry['name']}/{entry['version']}": entry["state"] for entry in client.get_model_repository_index()}


def refusal(call: Callable[[], object], status: str) -> str:
    with pytest.raises(InferenceServerException) as refused:
        call()
    assert refused.value.status() == status
    return str(refused.value.message())


def test_health_and_metadata(client: Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("add-sub")
    assert client.is_model_ready("add-sub", "1")
    assert not client.is_model_ready("add-sub", "2")
    assert not client.is_model_ready("nobody")
    server = client.get_server_metadata()
    assert (server["name"], "binary_tensor_data" in server["extensions"]) == ("fleet", True)
    assert client.get_model_metadata("add-sub") == {
        "name": "add-sub",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": f"INPUT{n}", "datatype": "INT32", "shape": [-1, 16]} for n in (0, 1)],
        "outputs": [{"name": f"OUTPUT{n}", "datatype": "INT32", "shape": [-1, 16]} for n in (0, 1)],
    }


def test_configurations_are_tritons(client: Client) -> None:
    config = client.get_model_config("add-sub", "1")
    assert (config["name"], config["max_batch_size"]) == ("add-sub", 8)
    assert [(given["name"], given["data_type"]) for given in config["input"]] == [
        ("INPUT0", "TYPE_INT32"),
        ("INPUT1", "TYPE_INT32"),
    ]
    assert [list(map(int, given["dims"])) for given in config["output"]] == [[16], [16]]


def test_what_triton_has_besides_is_refused_in_words(client: Client) -> None:
    assert "shared memory is not possible" in refusal(client.get_system_shared_memory_status, "501")
    assert "shared memory is not possible" in refusal(client.get_cuda_shared_memory_status, "501")
    assert "OpenTelemetry" in refusal(client.get_trace_settings, "501")
    assert "OpenTelemetry" in refusal(lambda: client.update_trace_settings("add-sub", {}), "501")
    assert "LOG_LEVEL" in refusal(client.get_log_settings, "501")


def test_statistics_are_cumulative_and_whole(client: Client) -> None:
    def of(version: str = "1") -> dict[str, Any]:
        (found,) = client.get_inference_statistics("add-sub", version)["model_stats"]
        return dict(found)

    before = of()
    infer(client, batch=4)
    eventually(lambda: of()["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1)
    after = of()
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 1
    assert time.time() - after["last_inference"] / 1000 < 60
    assert set(after["inference_stats"]) == {
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
    }  # fmt: skip
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    sizes = {batch["batch_size"]: batch for batch in after["batch_stats"]}
    assert sizes[4]["compute_infer"]["count"] >= 1
    assert client.get_inference_statistics("add-sub")["model_stats"] == [of()]
    every = {entry["name"] for entry in client.get_inference_statistics()["model_stats"]}
    assert every >= {"add-sub", "scores", "strings", "half", "every-type"}


def test_an_unloaded_model_is_gone_until_it_is_loaded(client: Client) -> None:
    infer(client)
    assert states(client)["add-sub/1"] == "READY"
    client.unload_model("add-sub", unload_dependents=True)
    assert states(client)["add-sub/1"] == "UNAVAILABLE"
    assert not client.is_model_ready("add-sub")
    eventually(lambda: not client.is_model_ready("add-sub"))

    def refused() -> bool:
        try:
            infer(client)
        except InferenceServerException as error:
            return error.status() == "503" and "was unloaded" in error.message()
        return False

    # What a front door keeps of a model it keeps for a moment.
    eventually(refused)
    client.load_model("add-sub")
    assert states(client)["add-sub/1"] == "READY"
    eventually(lambda: infer(client) is not None, errors=(InferenceServerException,))
    # Once more is a reload, and nobody notices.
    client.load_model("add-sub")
    assert infer(client).tolist() == [[2] * 16]


def test_a_configuration_stands_in_the_place_of_the_models_own(client: Client) -> None:
    config = client.get_model_config("add-sub")
    client.load_model("add-sub", config=json.dumps({**config, "max_batch_size": 2}))
    assert client.get_model_config("add-sub")["max_batch_size"] == 2
    eventually(lambda: "at most 2" in _refusal_of(client, 3))
    client.load_model("add-sub")
    assert client.get_model_config("add-sub")["max_batch_size"] == 8
    eventually(lambda: _refusal_of(client, 3) == "")


def _refusal_of(client: Client, batch: int) -> str:
    try:
        infer(client, batch=batch)
    except InferenceServerException as error:
        return str(error.message())
    return ""


def test_a_configuration_that_does_not_fit_leaves_the_old_one_serving(client: Client) -> None:
    wrong = {"max_batch_size": 8, "nobody": 1}
    said = refusal(lambda: client.load_model("add-sub", config=json.dumps(wrong)), "503")
    assert "failed to load 'add-sub/1'" in said
    assert 'no field named "nobody"' in said
    assert client.get_model_config("add-sub")["max_batch_size"] == 8
    assert infer(client).tolist() == [[2] * 16]
    client.load_model("add-sub")
    assert infer(client).tolist() == [[2] * 16]


WRONG = {
    "input": ({"name": "nobody", "data_type": "TYPE_INT32", "dims": [16]}, "graph has no such input"),
    "type": ({"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [16]}, "declared FP32, and the graph's is INT32"),
    "shape": ({"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [5]}, "declared [-1, 5]"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("unloaded", [False, True], ids=["serving", "unloaded"])
def test_a_configuration_that_the_graph_contradicts_is_refused(client: Client, wrong: str, unloaded: bool) -> None:
    tensor, said = WRONG[wrong]
    config = client.get_model_config("add-sub")
    if unloaded:
        client.unload_model("add-sub")
    else:
        client.load_model("add-sub")
    bad = json.dumps({**config, "input": [tensor, config["input"][1]]})
    told = refusal(lambda: client.load_model("add-sub", config=bad), "503")
    assert said in told
    assert "no answer yet" not in told
    assert client.get_model_config("add-sub") == config
    if unloaded:
        assert states(client)["add-sub/1"] == "UNAVAILABLE"
    else:
        assert states(client)["add-sub/1"] == "READY"
        assert infer(client).tolist() == [[2] * 16]
    # What is right is taken at once: the word on the wrong one is no word on this one.
    client.load_model("add-sub", config=json.dumps(config))
    client.load_model("add-sub")
    eventually(lambda: infer(client) is not None, errors=(InferenceServerException,))


def test_a_warm_up_that_no_memory_holds_is_refused(client: Client) -> None:
    given = {"data_type": "TYPE_FP32", "dims": [2**40], "zero_data": True}
    config = client.get_model_config("wide") | {"model_warmup": [{"name": "huge", "inputs": {"x": given}}]}
    said = refusal(lambda: client.load_model("wide", config=json.dumps(config)), "503")
    assert "more than the 1024 MiB that a warm-up may hold" in said
    # And others are still loaded.
    client.load_model("add-sub")


def test_a_right_configuration_is_taken_right_after_a_wrong_one(client: Client) -> None:
    config = client.get_model_config("half")
    refusal(lambda: client.load_model("half", config=json.dumps({**config, "nobody": 1})), "503")
    client.load_model("half", config=json.dumps({**config, "max_batch_size": 2}))
    assert client.get_model_config("half")["max_batch_size"] == 2
    client.load_model("half")


def test_files_do_not_come_with_a_load(client: Client) -> None:
    said = refusal(lambda: client.load_model("add-sub", config="{}", files={"file:1/model.onnx": b"onnx"}), "400")
    assert "POST /api/v1/models/upload" in said


def test_the_index_can_be_of_the_ready_ones(stack: Stack) -> None:
    every = stack.door.http.post("/v2/repository/index").json()
    assert [entry["name"] for entry in every] == ["add-sub", "every-type", "half", "scores", "strings", "wide"]
    ready = stack.door.http.post("/v2/repository/index", json={"ready": True}).json()
    assert {entry["state"] for entry in ready} == {"READY"}
