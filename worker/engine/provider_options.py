"""What an author may tell an execution provider and a session, and what Fleet tells them by itself.

Only what is listed here gets through: a model's files come from strangers, and among ONNX Runtime's options are some
that name files to write, libraries to load and addresses in memory.
Sources: the pages "CUDA", "TensorRT" and "OpenVINO Execution Provider" of ONNX Runtime's documentation, and its
onnxruntime_session_options_config_keys.h (1.31).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from fleet.errors import ModelError
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, OPENVINO_PROVIDER, TENSORRT_PROVIDER

Options = Mapping[str, str]

_FLAG = "0|1|true|false|True|False"
_COUNT = r"\d{1,20}"
_SHAPES = r"[\w./:-]+:\d+(x\d+)*(,[\w./:-]+:\d+(x\d+)*)*"
_WORDS = r"[\w,-]{1,1000}"

#: Provider -> option -> what its value must look like.
_ALLOWED: dict[str, dict[str, str]] = {
    CPU_PROVIDER: {},
    CUDA_PROVIDER: {
        "gpu_mem_limit": _COUNT,
        "arena_extend_strategy": "kNextPowerOfTwo|kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE|HEURISTIC|DEFAULT",
        "cudnn_conv_use_max_workspace": _FLAG,
        "cudnn_conv1d_pad_to_nc1d": _FLAG,
        "do_copy_in_default_stream": _FLAG,
        "enable_skip_layer_norm_strict_mode": _FLAG,
        "fuse_conv_bias": _FLAG,
        "prefer_nhwc": _FLAG,
        "sdpa_kernel": _COUNT,
        "tunable_op_enable": _FLAG,
        "tunable_op_tuning_enable": _FLAG,
        "tunable_op_max_tuning_duration_ms": _COUNT,
        "use_tf32": _FLAG,
    },
    TENSORRT_PROVIDER: {
        "trt_max_workspace_size": _COUNT,
        "trt_max_partition_iterations": _COUNT,
        "trt_min_subgraph_size": _COUNT,
        "trt_fp16_enable": _FLAG,
        "trt_bf16_enable": _FLAG,
        "trt_int8_enable": _FLAG,
        "trt_engine_cache_enable": _FLAG,
        "trt_timing_cache_enable": _FLAG,
        "trt_force_sequential_engine_build": _FLAG,
        "trt_context_memory_sharing_enable": _FLAG,
        "trt_layer_norm_fp32_fallback": _FLAG,
        "trt_build_heuristics_enable": _FLAG,
        "trt_sparsity_enable": _FLAG,
        "trt_cuda_graph_enable": _FLAG,
        "trt_builder_optimization_level": "[0-5]",
        "trt_auxiliary_streams": r"-1|\d{1,3}",
        "trt_op_types_to_exclude": _WORDS,
        "trt_profile_min_shapes": _SHAPES,
        "trt_profile_max_shapes": _SHAPES,
        "trt_profile_opt_shapes": _SHAPES,
    },
    OPENVINO_PROVIDER: {
        "device_type": r"(CPU|NPU|GPU(\.\d)?|(AUTO|HETERO|MULTI)(:[A-Z0-9.,]+)?)(_FP(16|32))?",
        "precision": "FP32|FP16|ACCURACY",
        "num_of_threads": _COUNT,
        "num_streams": _COUNT,
        "model_priority": "LOW|MEDIUM|HIGH|DEFAULT",
        "enable_qdq_optimizer": _FLAG,
        "enable_opencl_throttling": _FLAG,
        "disable_dynamic_shapes": _FLAG,
    },
}

#: Triton's names for TensorRT, and ONNX Runtime's.
_PRECISIONS: dict[str, dict[str, str]] = {
    "FP32": {},
    "FP16": {"trt_fp16_enable": "1"},
    "INT8": {"trt_int8_enable": "1"},
}

#: Not `session.set_denormal_as_zero`: it changes the processor's mode for all sessions of the process.
_CONFIG: dict[str, str] = {
    "mlas.disable_kleidiai": _FLAG,
    "mlas.qnbit.force_fp32": _FLAG,
    "mlas.use_lut_gemm": _FLAG,
    "optimization.constant_folding_max_output_size_in_bytes": _COUNT,
    "optimization.disable_specified_optimizers": r"[\w;,-]{1,1000}",
    "optimization.enable_cast_chain_elimination": _FLAG,
    "optimization.enable_gelu_approximation": _FLAG,
    "session.disable_aot_function_inlining": _FLAG,
    "session.disable_cpu_ep_fallback": _FLAG,
    "session.disable_double_qdq_remover": _FLAG,
    "session.disable_prepacking": _FLAG,
    "session.disable_qdq_constant_folding": _FLAG,
    "session.disable_quant_qdq": _FLAG,
    "session.dynamic_block_base": _COUNT,
    "session.enable_dq_matmulnbits_fusion": _FLAG,
    "session.enable_quant_qdq_cleanup": _FLAG,
    "session.graph_optimizations_loop_level": "[0-2]",
    "session.inter_op.allow_spinning": _FLAG,
    "session.intra_op.allow_spinning": _FLAG,
    "session.qdq_matmulnbits_accuracy_level": "[0-4]",
    "session.qdqisint8allowed": _FLAG,
    "session.strict_shape_type_inference": _FLAG,
    "session.use_device_allocator_for_initializers": _FLAG,
    "session.x64quantprecision": _FLAG,
}


def faults_of_options(provider: str, options: Options) -> list[str]:
    """What is wrong with an author's options of a provider, one sentence each."""
    known = _ALLOWED.get(provider)
    if known is None:
        return [f"Fleet passes no options on to {provider}: leave {', '.join(options)} out"] if options else []
    return _faults(f"{provider} ", _translated(provider, options), known)


def faults_of_config(entries: Options) -> list[str]:
    """The same for entries of the session's configuration."""
    return _faults("", entries, _CONFIG)


def provider_options(
    provider: str, asked: Options, *, model_sha256: str, cache: Path | None, device_kind: str, threads: int
) -> dict[str, str]:
    """All that a provider is told: Fleet's own choices, and the author's above them.

    `cache`: the folder where engines may be kept that take minutes to build, None for nowhere. `threads`: 0 leaves
    the count to the provider. Raises ModelError `provider-options-invalid`.
    """
    if wrong := faults_of_options(provider, asked):
        raise ModelError("; ".join(wrong), code="provider-options-invalid")
    told = _translated(provider, asked)
    if provider == CUDA_PROVIDER:
        # As on the CPU (arena.py): an arena that doubles keeps memory that other models could have.
        return {"arena_extend_strategy": "kSameAsRequested"} | told
    if provider == TENSORRT_PROVIDER:
        if cache is None or told.get("trt_engine_cache_enable", "1") in ("0", "false", "False"):
            return told
        engines = str(_kept(cache / "tensorrt", model_sha256, device_kind, told))
        kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": engines}
        return {"trt_timing_cache_enable": "1"} | told | kept | {"trt_timing_cache_path": engines}
    if provider == OPENVINO_PROVIDER:
        kept = {} if cache is None else {"cache_dir": str(_kept(cache / "openvino", model_sha256, device_kind, told))}
        return ({"num_of_threads": str(threads)} if threads else {}) | {"device_type": "CPU"} | told | kept
    return told


def _kept(root: Path, model_sha256: str, device_kind: str, told: Options) -> Path:
    """An engine fits one model, one kind of device, one version of the runtime and one set of options."""
    facts = json.dumps([device_kind, ort.__version__, sorted(told.items())])
    folder = root / model_sha256 / hashlib.sha256(facts.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _translated(provider: str, options: Options) -> dict[str, str]:
    if provider != TENSORRT_PROVIDER:
        return dict(options)
    told = dict(options)
    if (precision := told.get("precision_mode")) in _PRECISIONS:
        del told["precision_mode"]
        told = _PRECISIONS[precision] | told
    if "max_workspace_size_bytes" in told:
        told["trt_max_workspace_size"] = told.pop("max_workspace_size_bytes")
    return told


def _faults(where: str, told: Options, known: Mapping[str, str]) -> list[str]:
    faults = []
    for name, value in told.items():
        if name not in known:
            faults.append(
                f"{where}{name} is none of the options that a model may set"
                + (f": {', '.join(sorted(known))}" if known else "")
            )
        elif not re.fullmatch(known[name], value):
            faults.append(f"{where}{name} must look like {known[name]}, not {value!r}")
    return faults
