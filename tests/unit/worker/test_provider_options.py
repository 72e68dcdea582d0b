"""Options of providers and sessions: those that are listed get through, those that reach files or libraries do not."""

from pathlib import Path

import pytest

from fleet.errors import ModelError
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, OPENVINO_PROVIDER, TENSORRT_PROVIDER
from tests.support.small_graphs import model_folder, perceptron
from worker.engine.model_folder import check_model
from worker.engine.provider_options import faults_of_config, faults_of_options, provider_options
from worker.engine.session import Session, SessionSetup

SHA = "ab" * 32


def told(provider: str, cache: Path | None = None, *, device: str = "GPU A", **asked: str) -> dict[str, str]:
    return provider_options(provider, asked, model_sha256=SHA, cache=cache, device_kind=device, threads=3)


@pytest.mark.parametrize(
    ("provider", "option", "value"),
    [
        (TENSORRT_PROVIDER, "trt_engine_cache_path", "/etc"),
        (TENSORRT_PROVIDER, "trt_timing_cache_path", "/etc"),
        (TENSORRT_PROVIDER, "trt_extra_plugin_lib_paths", "/tmp/evil.so"),
        (TENSORRT_PROVIDER, "trt_engine_decryption_lib_path", "/tmp/evil.so"),
        (TENSORRT_PROVIDER, "trt_dump_ep_context_model", "1"),
        (CUDA_PROVIDER, "user_compute_stream", "140737488355328"),
        (CUDA_PROVIDER, "gpu_external_alloc", "1"),
        (CUDA_PROVIDER, "device_id", "1"),
        (OPENVINO_PROVIDER, "load_config", "/etc/passwd"),
        (OPENVINO_PROVIDER, "cache_dir", "/etc"),
        (CPU_PROVIDER, "anything", "1"),
    ],
)
def test_option_that_reaches_out_of_the_session_is_refused_by_name(provider: str, option: str, value: str) -> None:
    (fault,) = faults_of_options(provider, {option: value})
    assert fault.startswith(f"{provider} {option} is none of the options that a model may set")
    with pytest.raises(ModelError, match=option) as caught:
        provider_options(provider, {option: value}, model_sha256=SHA, cache=None, device_kind="cpu", threads=0)
    assert caught.value.code == "provider-options-invalid"


@pytest.mark.parametrize(
    "name",
    [
        "session.model_external_initializers_file_folder_path",
        "session.optimized_model_external_initializers_file_name",
        "session.node_partition_config_file",
        "session.collect_node_memory_stats_to_file",
        "session.intra_op_thread_affinities",
        "session.load_model_format",
        "session.use_env_allocators",
        "session.set_denormal_as_zero",
        "ep.context_file_path",
    ],
)
def test_entry_of_the_session_that_is_not_listed_is_refused(name: str) -> None:
    (fault,) = faults_of_config({name: "1"})
    assert fault.startswith(f"{name} is none of the options that a model may set")


def test_value_that_does_not_look_right_is_refused_with_what_it_must_look_like() -> None:
    (fault,) = faults_of_options(CUDA_PROVIDER, {"cudnn_conv_algo_search": "FASTEST"})
    assert fault.endswith("must look like EXHAUSTIVE|HEURISTIC|DEFAULT, not 'FASTEST'")
    assert faults_of_config({"session.disable_prepacking": "1; rm"}) != []


def test_options_of_a_provider_that_fleet_does_not_know_are_refused() -> None:
    assert faults_of_options("DmlExecutionProvider", {}) == []
    assert "passes no options on to DmlExecutionProvider" in faults_of_options("DmlExecutionProvider", {"a": "1"})[0]


def test_tensorrt_keeps_its_engines_in_a_folder_of_the_model_the_device_and_the_options(tmp_path: Path) -> None:
    options = told(TENSORRT_PROVIDER, tmp_path, trt_fp16_enable="1")
    kept = Path(options["trt_engine_cache_path"])
    assert options["trt_engine_cache_enable"] == "1"
    assert options["trt_timing_cache_path"] == str(kept)
    assert kept.is_dir()
    assert kept.parent == tmp_path / "tensorrt" / SHA
    others = [
        told(TENSORRT_PROVIDER, tmp_path),
        told(TENSORRT_PROVIDER, tmp_path, device="GPU B", trt_fp16_enable="1"),
    ]
    assert str(kept) not in [other["trt_engine_cache_path"] for other in others]
    assert told(TENSORRT_PROVIDER, tmp_path, trt_fp16_enable="1") == options


def test_tensorrt_keeps_no_engines_when_its_author_says_so_or_there_is_no_place(tmp_path: Path) -> None:
    assert "trt_engine_cache_path" not in told(TENSORRT_PROVIDER, tmp_path, trt_engine_cache_enable="0")
    assert told(TENSORRT_PROVIDER) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("precision", "option"), [("FP16", "trt_fp16_enable"), ("INT8", "trt_int8_enable"), ("FP32", None)]
)
def test_tritons_names_for_tensorrt_become_onnx_runtimes(precision: str, option: str | None) -> None:
    options = told(TENSORRT_PROVIDER, precision_mode=precision, max_workspace_size_bytes="1073741824")
    assert options == {"trt_max_workspace_size": "1073741824"} | ({option: "1"} if option else {})


def test_openvino_gets_threads_and_a_cache_and_its_author_has_the_last_word(tmp_path: Path) -> None:
    options = told(OPENVINO_PROVIDER, tmp_path, device_type="GPU.0", num_of_threads="1")
    assert (options["device_type"], options["num_of_threads"]) == ("GPU.0", "1")
    assert Path(options["cache_dir"]).is_dir()
    assert told(OPENVINO_PROVIDER) == {"device_type": "CPU", "num_of_threads": "3"}


def test_cuda_arena_grows_by_what_is_asked_for_unless_its_author_wants_it_otherwise() -> None:
    assert told(CUDA_PROVIDER) == {"arena_extend_strategy": "kSameAsRequested"}
    assert told(CUDA_PROVIDER, arena_extend_strategy="kNextPowerOfTwo")["arena_extend_strategy"] == "kNextPowerOfTwo"


def test_session_is_made_as_the_setup_says(tmp_path: Path) -> None:
    setup = SessionSetup(
        [CPU_PROVIDER],
        intra_op_threads=1,
        inter_op_threads=2,
        parallel=True,
        spin=False,
        graph_optimization="basic",
        config={"session.disable_prepacking": "1", "session.intra_op.allow_spinning": "1"},
    )
    options = setup.options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 2)
    assert str(options.execution_mode).endswith("ORT_PARALLEL")
    assert str(options.graph_optimization_level).endswith("ORT_ENABLE_BASIC")
    assert options.get_session_config_entry("session.disable_prepacking") == "1"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1", "the author has the last word"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert Session(perceptron(tmp_path / "model.onnx"), setup).provider == CPU_PROVIDER


def test_threads_of_one_model_do_not_spin_under_the_run_of_the_next() -> None:
    for spin in (True, False):
        options = SessionSetup([CPU_PROVIDER], spin=spin).options()
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spin))


@pytest.mark.parametrize(
    ("onnx", "said"),
    [
        ("provider_options: {CUDAExecutionProvider: {user_compute_stream: '1'}}", "user_compute_stream is none of"),
        ("session_config: {session.optimized_model_filepath: /tmp/x}", "session.optimized_model_filepath is none of"),
        ("providers: [cuda]", "no execution providers: write CUDAExecutionProvider, ..., or auto"),
    ],
)
def test_checking_a_model_names_the_option_that_is_refused(tmp_path: Path, onnx: str, said: str) -> None:
    folder = model_folder(tmp_path, manifest=f"task: tensors\nonnx:\n  {onnx}\n")
    assert any(said in fault for fault in check_model(folder)), check_model(folder)
