"""The engine on small graphs made here: providers are proven, sessions are shared, runs can be stopped."""

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import structlog

from fleet.contracts import Pool
from fleet.errors import ModelError, NotFound, RunStopped
from fleet.settings import CPU_PROVIDER, Settings
from tests.support.small_graphs import slow_graph
from worker.engine.manifest import read_manifest
from worker.engine.model_folder import check_model
from worker.engine.providers import PROBE_GRAPH, prove_providers
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.session import Session, SessionSetup
from worker.stop import StopReason, StopToken
from worker.tasks import find_tasks

SETUP = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)


def echo_folder(root: Path, name: str = "echo", **manifest: str) -> Path:
    folder = root / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(PROBE_GRAPH)
    lines = {"task": "echo", **manifest}
    (folder / "model.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return folder


def test_probe_graph_is_the_identity_graph_that_it_claims_to_be() -> None:
    graph = onnx.load_from_string(PROBE_GRAPH)
    onnx.checker.check_model(graph, full_check=True)
    assert [node.op_type for node in graph.graph.node] == ["Identity"]
    assert Path("models/echo/1/model.onnx").read_bytes() == PROBE_GRAPH


def test_cpu_provider_works_everywhere() -> None:
    assert prove_providers([CPU_PROVIDER]).using == [CPU_PROVIDER]


def test_provider_that_the_build_lacks_is_refused_with_the_reason() -> None:
    providers = prove_providers(["NoSuchExecutionProvider", CPU_PROVIDER])
    assert providers.using == [CPU_PROVIDER]
    assert "does not have it" in providers.refused["NoSuchExecutionProvider"]


def test_three_lines_tell_what_was_requested_available_and_used() -> None:
    with structlog.testing.capture_logs() as lines:
        prove_providers([CPU_PROVIDER])
    for word, line in zip(("requested", "available", "using"), lines, strict=True):
        assert line["event"].startswith(f"ONNX providers {word}: [")
        assert CPU_PROVIDER in line["event"]


def test_no_working_provider_is_an_error_that_names_each() -> None:
    with pytest.raises(ModelError, match="NoSuchExecutionProvider") as caught:
        prove_providers(["NoSuchExecutionProvider"])
    assert caught.value.code == "no-execution-provider"


def test_session_tells_its_tensors_and_its_real_provider(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(PROBE_GRAPH)
    session = Session(path, SETUP)
    assert session.provider == CPU_PROVIDER
    assert [(t.name, t.dtype, t.shape) for t in session.inputs] == [("x", np.dtype(np.float32), (-1,))]


def test_running_graph_stops_within_a_second_and_the_session_serves_the_next_run(tmp_path: Path) -> None:
    session = Session(slow_graph(tmp_path / "slow.onnx", nodes=4000), SETUP)
    feeds = {"x": np.ones((512, 512), np.float32)}
    stop = StopToken()
    threading.Timer(0.3, stop.set, [StopReason.CANCELLED]).start()
    began = time.monotonic()
    with pytest.raises(RunStopped) as caught:
        session.run(feeds, stop)
    assert caught.value.code == "cancelled"
    assert time.monotonic() - began < 5, "the whole graph takes far longer than the stop"
    short = Session(slow_graph(tmp_path / "short.onnx", nodes=2), SETUP)
    np.testing.assert_allclose(short.run(feeds, StopToken())["y"], 1.0, rtol=1e-5)
    # The very session that was stopped still runs: another token, another RunOptions.
    again = StopToken()
    threading.Timer(0.3, again.set, [StopReason.DRAINED]).start()
    with pytest.raises(RunStopped, match="shutting down"):
        session.run(feeds, again)


def test_token_that_is_already_set_lets_nothing_run(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(PROBE_GRAPH)
    stop = StopToken()
    stop.set(StopReason.DEADLINE)
    stop.set(StopReason.CANCELLED)
    with pytest.raises(RunStopped) as caught:
        Session(path, SETUP).run({"x": np.ones(1, np.float32)}, stop)
    assert caught.value.code == "deadline-exceeded", "the first reason counts"


def test_wrong_input_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(PROBE_GRAPH)
    with pytest.raises(ModelError) as caught:
        Session(path, SETUP).run({"x": np.ones(1, np.int64)}, StopToken())
    assert caught.value.code == "inference-invalid-input"


def test_file_that_is_no_graph_is_unloadable(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelError) as caught:
        Session(path, SETUP)
    assert caught.value.code == "model-unloadable"


def test_model_is_loaded_once_however_many_ask(tmp_path: Path) -> None:
    echo_folder(tmp_path)
    made: list[str] = []

    def setup(version: object) -> SessionSetup:
        made.append("session")
        time.sleep(0.05)
        return SETUP

    registry = Registry(Repository(tmp_path, find_tasks()), setup)
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(registry.load("echo", 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["session"]
    assert len({id(result) for result in results}) == 1
    assert registry.loaded == ["echo/1"]
    with pytest.raises(NotFound):
        registry.load("echo", 2)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"lane": "fast"}, "lane"),
        ({"surprise": "yes"}, "surprise"),
        ({"task": "no-such-task"}, "known tasks: echo"),
        ({"pipeline": "{window: 3}"}, "pipeline.window"),
        ({"expected_s": "{cpu: 0}"}, "expected_s.cpu"),
        ({"expected_s": "{tpu: 1}"}, "expected_s.tpu"),
    ],
)
def test_broken_manifest_names_the_field(tmp_path: Path, manifest: dict[str, str], said: str) -> None:
    folder = echo_folder(tmp_path, **manifest)
    assert any(said in fault for fault in check_model(folder)), check_model(folder)


def test_broken_folder_is_left_out_and_the_others_are_served(tmp_path: Path) -> None:
    echo_folder(tmp_path)
    echo_folder(tmp_path, "broken", lane="fast")
    assert sorted(Repository(tmp_path, find_tasks()).versions) == [("echo", 1)]


def test_versions_beginning_with_zero_and_other_folders_are_ignored(tmp_path: Path) -> None:
    folder = echo_folder(tmp_path)
    for name in ("01", "notes", "2"):
        (folder / name).mkdir()
    (folder / "01" / "model.onnx").write_bytes(PROBE_GRAPH)
    assert sorted(Repository(tmp_path, find_tasks()).versions) == [("echo", 1)]


@pytest.mark.parametrize("name", [entry.name for entry in Path("models").iterdir() if entry.is_dir()])
def test_every_model_that_ships_passes_its_check(name: str) -> None:
    missing = [
        file.path
        for file in read_manifest(Path("models") / name).source.files
        if not (Path("models") / name / "1" / file.path).exists()
    ]
    faults = check_model(Path("models") / name)
    assert [fault.split(" is not in the folder")[0].split(" ")[1] for fault in faults] == missing
    assert read_manifest(Path("models") / name).licence


def test_card_carries_the_schema_of_the_parameters(tmp_path: Path) -> None:
    echo_folder(tmp_path)
    card = Repository(tmp_path, find_tasks()).get("echo", 1).card()
    assert card.params_schema["additionalProperties"] is False
    assert set(card.params_schema["properties"]) == {"values", "repeat", "pause_s"}


def test_card_carries_what_its_author_expects_a_job_to_take(tmp_path: Path) -> None:
    echo_folder(tmp_path, expected_s="{cpu: 3.4, gpu: 0.2}")
    card = Repository(tmp_path, find_tasks()).get("echo", 1).card()
    assert card.expected_s == {Pool.CPU: 3.4, Pool.GPU: 0.2}


@pytest.mark.parametrize(
    ("environment", "providers"),
    [
        ({}, ["CUDAExecutionProvider", CPU_PROVIDER]),
        ({"inference_device": "cpu"}, [CPU_PROVIDER]),
        ({"onnx_providers": ["OpenVINOExecutionProvider"]}, ["OpenVINOExecutionProvider", CPU_PROVIDER]),
        ({"inference_device": "cpu", "onnx_providers": ["CUDAExecutionProvider"]}, [CPU_PROVIDER]),
    ],
)
def test_effective_providers_end_with_the_cpu(environment: dict[str, object], providers: list[str]) -> None:
    assert Settings(_env_file=None, **environment).effective_onnx_providers == providers  # type: ignore[arg-type]
