"""`auto`: what runs here is tried, compared with the CPU, and remembered; a fallback is told with its reason."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import structlog

from fleet.contracts import Pool
from fleet.errors import NoCapableWorker
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, OPENVINO_PROVIDER, TENSORRT_PROVIDER, Settings
from tests.support.small_graphs import MANIFEST, gelu, model_folder, perceptron
from tests.unit.worker.test_gpu_promise import FOR_CUDA, has_driver
from worker.concurrency import threads_of_session
from worker.device import Device, prove_device
from worker.engine.choice import Choice, Choices, Trial, choice_key, choose
from worker.engine.providers import Providers
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.session import SessionSetup
from worker.engine.setup import Setups, with_cuda_behind
from worker.stop import StopToken
from worker.tasks import find_tasks

#: In every build for processors: it runs no node itself, so that a session with it is the CPU by another name.
OTHER = "AzureExecutionProvider"
SETUP = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
ELSEWHERE = replace(SETUP, providers=[OTHER, CPU_PROVIDER])
here = pytest.mark.skipif(OTHER not in onnxruntime.get_available_providers(), reason="this build has the CPU alone")


def device(*working: str, pool: Pool = Pool.CPU, refused: dict[str, str] | None = None) -> Device:
    providers = Providers(list(working), list(working), list(working), refused or {})
    return Device("a device", pool, providers, concurrency=1, intra_op_threads=2)


def setups_of(root: Path, cache: Path | None, proven: Device, asked: Sequence[str] = ()) -> SessionSetup:
    return Setups(proven, asked, cache)(Repository(root, find_tasks()).get("small", 1))


def rows() -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {"x": np.random.default_rng(3).normal(size=(4, 64)).astype(np.float32)}


@here
def test_every_candidate_is_made_run_and_compared(tmp_path: Path) -> None:
    choice = choose(perceptron(tmp_path / "model.onnx"), rows(), SETUP, [ELSEWHERE])
    assert [trial.left_out for trial in choice.trials] == ["", ""]
    assert all(trial.seconds is not None and trial.seconds > 0 for trial in choice.trials)
    assert choice.trials[1].disagreement == 0.0
    assert choice.trials[1].name == "AzureExecutionProvider, 1 thread, optimization all"
    assert choice.reason


@here
def test_candidate_that_disagrees_with_the_cpu_is_left_out_with_the_figures(tmp_path: Path) -> None:
    careless = replace(ELSEWHERE, config={"optimization.enable_gelu_approximation": "1"})
    feeds = {"x": np.full((1, 8), -2.3, np.float32)}
    choice = choose(gelu(tmp_path / "model.onnx"), feeds, SETUP, [careless])
    assert choice.taken == 0
    assert choice.trials[1].disagreement == pytest.approx(0.0137, rel=0.1)
    assert choice.trials[1].left_out == "its output 'y' differs by 0.014, 0.005 is allowed for float32"


@here
def test_where_the_author_allows_no_cpu_it_is_compared_with_and_not_taken(tmp_path: Path) -> None:
    choice = choose(perceptron(tmp_path / "model.onnx"), rows(), SETUP, [ELSEWHERE], cpu_allowed=False)
    assert choice.taken == 1
    assert choice.trials[0].left_out == "its author allows no CPU"
    assert choice.trials[0].seconds is not None


@here
def test_inputs_that_the_graph_does_not_take_leave_the_reference_and_say_why(tmp_path: Path) -> None:
    feeds = {"x": np.zeros((1, 63), np.float32)}
    choice = choose(perceptron(tmp_path / "model.onnx"), feeds, SETUP, [ELSEWHERE])
    assert choice.taken == 0
    assert choice.reason.startswith("nothing could be measured: ")


def test_automatic_choice_is_logged_with_its_figures_and_told_on_the_setup(tmp_path: Path) -> None:
    model_folder(tmp_path, manifest="task: tensors\nonnx: {providers: auto}\n")
    with structlog.testing.capture_logs() as lines:
        setup = setups_of(tmp_path, tmp_path / "cache", device(CPU_PROVIDER))
    tried = [line for line in lines if line["event"] == "way of running a model tried"]
    assert [line["candidate"] for line in tried] == [
        "CPUExecutionProvider, 2 threads, optimization all",
        "CPUExecutionProvider, 1 thread, optimization all",
        "CPUExecutionProvider, 2 threads, optimization extended",
    ]
    assert all(line["seconds"] > 0 for line in tried)
    (chosen,) = [line for line in lines if line["event"] == "provider chosen"]
    assert chosen["inputs"] == "x 1×64"
    assert setup.why == f"auto: {chosen['taken']}; {chosen['reason']}"
    assert setup.providers == [CPU_PROVIDER]


def test_inputs_are_those_of_the_warm_up_else_of_the_declared_shape(tmp_path: Path) -> None:
    warmup = "warmup: [{inputs: {x: {datatype: FP32, shape: [5, 64], fill: random}}}]"
    declared = "inputs: [{name: x, datatype: FP32, shape: [9, 64]}]"
    for number, (said, shape) in enumerate([(warmup, "x 5×64"), (declared, "x 9×64")]):
        root = tmp_path / str(number)
        model_folder(root, manifest=f"task: tensors\nonnx: {{providers: auto}}\n{said}\n")
        with structlog.testing.capture_logs() as lines:
            setups_of(root, None, device(CPU_PROVIDER))
        assert lines[-1]["inputs"] == shape


def test_choice_is_measured_once_and_remembered_over_restarts(tmp_path: Path) -> None:
    model_folder(tmp_path)
    first = setups_of(tmp_path, tmp_path / "cache", device(CPU_PROVIDER), ["auto"])
    with structlog.testing.capture_logs() as lines:
        again = setups_of(tmp_path, tmp_path / "cache", device(CPU_PROVIDER), ["auto"])
    assert lines == []
    assert again == first
    (kept,) = (tmp_path / "cache" / "choices").iterdir()
    kept.write_text("{", "utf-8")
    with structlog.testing.capture_logs() as lines:
        setups_of(tmp_path, tmp_path / "cache", device(CPU_PROVIDER), ["auto"])
    assert "measuring anew" in lines[0]["event"]
    assert lines[-1]["event"] == "provider chosen"


def test_choice_depends_on_model_device_and_what_the_candidates_are_told() -> None:
    keys = {
        choice_key("aa", "cpu", [SETUP]),
        choice_key("bb", "cpu", [SETUP]),
        choice_key("aa", "NVIDIA T4", [SETUP]),
        choice_key("aa", "cpu", [SETUP, ELSEWHERE]),
        choice_key("aa", "cpu", [replace(SETUP, provider_options={CPU_PROVIDER: {"a": "1"}})]),
    }
    assert len(keys) == 5
    assert choice_key("aa", "cpu", [SETUP]) in keys


def test_choice_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    choice = Choice(1, "because", (Trial("a", 0.5, None), Trial("b", None, None, "broken")), 12.0)
    Choices(tmp_path / "new").remember("key", choice)
    assert Choices(tmp_path / "new").remembered("key") == choice
    assert Choices(tmp_path / "new").remembered("other") is None
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["key.json"]


def test_choice_that_cannot_be_kept_costs_no_job(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Choices(tmp_path / "file" / "below").remember("key", Choice(0, "", ()))
    assert not (tmp_path / "file").is_dir()


def test_author_who_names_threads_and_optimization_gets_them_whatever_is_faster(tmp_path: Path) -> None:
    onnx = "onnx: {providers: auto, intra_op_threads: 1, graph_optimization: basic}"
    model_folder(tmp_path, manifest=f"task: tensors\n{onnx}\n")
    setup = setups_of(tmp_path, None, device(CPU_PROVIDER))
    assert (setup.intra_op_threads, setup.graph_optimization) == (1, "basic")
    assert setup.why == "auto: only CPUExecutionProvider, 1 thread, optimization basic works here"


def test_provider_that_was_asked_for_and_does_not_work_is_told_with_the_reason(tmp_path: Path) -> None:
    model_folder(tmp_path, manifest=f"task: tensors\nonnx: {{providers: [{OPENVINO_PROVIDER}]}}\n")
    proven = prove_device(Settings(_env_file=None, onnx_providers=[OPENVINO_PROVIDER], inference_device="auto"), 1)
    if OPENVINO_PROVIDER in proven.providers.using:
        pytest.skip("OpenVINO works here")
    setups = Setups(proven, [OPENVINO_PROVIDER])
    loaded = Registry(Repository(tmp_path, find_tasks()), setups).load("small", 1)
    assert loaded.session.provider == CPU_PROVIDER
    assert loaded.session.fallback.startswith(
        "asked for OpenVINOExecutionProvider, using CPUExecutionProvider: this build of onnxruntime"
    )


def test_provider_that_the_worker_may_not_use_is_told_as_such(tmp_path: Path) -> None:
    model_folder(tmp_path, manifest=f"task: tensors\nonnx: {{providers: [{CUDA_PROVIDER}, {CPU_PROVIDER}]}}\n")
    setup = setups_of(tmp_path, None, device(CPU_PROVIDER))
    assert "ONNX_PROVIDERS and INFERENCE_DEVICE do not let this worker use it" in setup.fallback


def test_session_that_is_as_asked_tells_no_fallback(tmp_path: Path) -> None:
    model_folder(tmp_path)
    loaded = Registry(Repository(tmp_path, find_tasks()), Setups(device(CPU_PROVIDER))).load("small", 1)
    assert (loaded.session.fallback, loaded.setup.fallback) == ("", "")
    scores = loaded.for_run(StopToken()).run(rows())["scores"]
    assert scores.shape == (4, 10)


@pytest.mark.parametrize("providers", ["", "onnx: {providers: auto}\n"])
def test_gpu_only_model_fails_loudly_on_a_cpu_and_is_not_even_measured(tmp_path: Path, providers: str) -> None:
    model_folder(tmp_path, manifest=f"task: tensors\ndevice: gpu-only\n{providers}")
    with structlog.testing.capture_logs() as lines, pytest.raises(NoCapableWorker) as caught:
        setups_of(tmp_path, None, device(CPU_PROVIDER), ["auto"])
    assert caught.value.code == "wrong-device"
    assert lines == []


@pytest.mark.parametrize(
    ("providers", "working", "taken"),
    [
        ([TENSORRT_PROVIDER], [TENSORRT_PROVIDER, CUDA_PROVIDER], [TENSORRT_PROVIDER, CUDA_PROVIDER]),
        (
            [TENSORRT_PROVIDER, CPU_PROVIDER],
            [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER],
            [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER],
        ),
        ([CUDA_PROVIDER, TENSORRT_PROVIDER], [CUDA_PROVIDER], [CUDA_PROVIDER, TENSORRT_PROVIDER]),
        ([TENSORRT_PROVIDER, CPU_PROVIDER], [TENSORRT_PROVIDER, CPU_PROVIDER], [TENSORRT_PROVIDER, CPU_PROVIDER]),
        ([CPU_PROVIDER], [CUDA_PROVIDER, CPU_PROVIDER], [CPU_PROVIDER]),
    ],
)
def test_what_tensorrt_cannot_run_is_left_to_the_same_gpu(
    providers: list[str], working: list[str], taken: list[str]
) -> None:
    assert with_cuda_behind(providers, working) == taken


def test_auto_stands_alone_and_means_all_that_can_be() -> None:
    wanted = Settings(_env_file=None, onnx_providers=["auto"]).effective_onnx_providers
    assert wanted == [TENSORRT_PROVIDER, CUDA_PROVIDER, OPENVINO_PROVIDER, CPU_PROVIDER]
    with pytest.raises(ValueError, match="stands alone"):
        Settings(_env_file=None, onnx_providers=["auto", CUDA_PROVIDER])


@pytest.mark.parametrize(
    ("concurrency", "cores", "threads"),
    [(1, 8, 8), (2, 8, 8), (4, 8, 4), (16, 8, 1), (16, 16, 2), (64, 2, 1), (3, 1, 1)],
)
def test_threads_are_shared_by_the_half_of_the_jobs_that_run_their_models(
    concurrency: int, cores: int, threads: int
) -> None:
    assert threads_of_session(concurrency, cores) == threads


@pytest.mark.gpu
@pytest.mark.skipif(not (FOR_CUDA and has_driver()), reason="no GPU is here")
def test_real_gpu_is_tried_and_agrees_with_the_cpu(tmp_path: Path) -> None:
    model_folder(tmp_path / "models")
    proven = prove_device(Settings(_env_file=None, inference_device="cuda", onnx_providers=["auto"]), 1)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    with structlog.testing.capture_logs() as lines:
        setup = setups_of(tmp_path / "models", tmp_path / "cache", proven, ["auto"])
    tried = {line["candidate"].split(",")[0]: line for line in lines if "candidate" in line}
    assert tried[CUDA_PROVIDER]["left_out"] == ""
    assert tried[CUDA_PROVIDER]["seconds"] > 0
    assert setup.why.startswith("auto: ")


@pytest.mark.gpu
@pytest.mark.skipif(
    not (has_driver() and TENSORRT_PROVIDER in onnxruntime.get_available_providers()), reason="no TensorRT is here"
)
def test_real_tensorrt_keeps_the_engine_that_it_built(tmp_path: Path) -> None:
    options = f"provider_options: {{{TENSORRT_PROVIDER}: {{precision_mode: FP16}}}}"
    manifest = f"task: tensors\nonnx: {{providers: [{TENSORRT_PROVIDER}], {options}}}\n"
    model_folder(tmp_path / "models", manifest=manifest)
    wanted = [TENSORRT_PROVIDER, CUDA_PROVIDER]
    proven = prove_device(Settings(_env_file=None, inference_device="cuda", onnx_providers=wanted), 1)
    if TENSORRT_PROVIDER not in proven.providers.using:
        pytest.skip(f"TensorRT does not work here: {proven.providers.refused}")
    setups = Setups(proven, wanted, tmp_path / "cache")
    loaded = Registry(Repository(tmp_path / "models", find_tasks()), setups).load("small", 1)
    loaded.for_run(StopToken()).run(rows())
    assert (loaded.session.provider, loaded.session.fallback) == (TENSORRT_PROVIDER, "")
    assert list((tmp_path / "cache" / "tensorrt").rglob("*.engine"))


@pytest.mark.parametrize(
    ("batching", "threads"),
    [
        ("", 1),
        ("batching: {max_batch_size: 8}", 1),
        ("batching: {max_batch_size: 8, dynamic: true}", 8),
        ("batching: {max_batch_size: 8, dynamic: true, instances: 2}", 4),
        ("batching: {max_batch_size: 8, dynamic: true, instances: 0}", 1),
    ],
)
def test_a_batched_model_has_the_cores_to_itself(tmp_path: Path, batching: str, threads: int) -> None:
    model_folder(tmp_path, manifest=f"{MANIFEST}\n{batching}\n")
    busy = replace(device(CPU_PROVIDER), concurrency=16, intra_op_threads=1, threads_of_batches=8)
    assert setups_of(tmp_path, None, busy).intra_op_threads == threads
