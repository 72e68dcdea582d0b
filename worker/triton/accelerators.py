"""From Triton's accelerators and parameters to providers and options of ONNX Runtime.

Which options a model may set, and to what, is said in `worker/engine/provider_options.py`.
"""

from collections.abc import Mapping
from typing import Any

from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, OPENVINO_PROVIDER, TENSORRT_PROVIDER
from worker.engine.provider_options import faults_of_config, faults_of_options

PROVIDERS = {"tensorrt": TENSORRT_PROVIDER, "cuda": CUDA_PROVIDER, "openvino": OPENVINO_PROVIDER}
#: ONNX Runtime's level by Triton's.
LEVELS = {0: "all", 1: "extended", -1: "basic", 2: "off"}
_MODES = {"0": "sequential", "1": "parallel"}
#: What a provider keeps lies where the worker's settings say.
_PLACES = frozenset({"trt_engine_cache_path", "trt_engine_cache_prefix", "trt_timing_cache_path", "cache_dir"})
_MEMORY_KEYS = frozenset({"enable_mem_arena", "enable_mem_pattern", "memory.enable_memory_arena_shrinkage"})
_SESSION = ("session.", "optimization.", "mlas.")
_DEPRECATED_CUDA = frozenset({"gpu_mem_limit", "arena_extend_strategy", "cudnn_conv_algo_search"})


class WrongOption(ValueError):
    """The message says which, and why."""


def providers(config: Any, remarks: list[str]) -> dict[str, Any]:
    """The manifest's `onnx.providers` and `onnx.provider_options`; nothing where none is named. Raises WrongOption."""
    accelerators = config.optimization.execution_accelerators
    gpu = [_accelerator(item, "gpu", remarks) for item in accelerators.gpu_execution_accelerator]
    cpu = [_accelerator(item, "cpu", remarks) for item in accelerators.cpu_execution_accelerator]
    if not gpu and not cpu:
        return {}
    names = dict.fromkeys([*(name for name, _ in gpu), *([CUDA_PROVIDER] if gpu else []), *(name for name, _ in cpu)])
    options = {name: told for name, told in (*gpu, *cpu) if told}
    said: dict[str, Any] = {"providers": [*names, CPU_PROVIDER]}
    return {**said, "provider_options": options} if options else said


def _accelerator(item: Any, kind: str, remarks: list[str]) -> tuple[str, dict[str, str]]:
    where = f"optimization.execution_accelerators.{kind}_execution_accelerator {item.name!r}"
    provider = PROVIDERS.get(item.name)
    if provider is None:
        raise WrongOption(f"{where}: there is no such accelerator here; there are {', '.join(PROVIDERS)}")
    told = {}
    for key, value in item.parameters.items():
        if key in _PLACES:
            remarks.append(f"{where}, {key} is ignored: what a provider keeps lies where the worker's settings say")
        else:
            told[key] = value
    if wrong := faults_of_options(provider, told):
        raise WrongOption(f"{where}: {'; '.join(wrong)}")
    return provider, told


def session_options(parameters: Mapping[str, Any], remarks: list[str]) -> dict[str, Any]:
    """What the `parameters` say of the session, as fields of the manifest's `onnx`. Raises WrongOption."""
    said: dict[str, Any] = {}
    for key, parameter in parameters.items():
        value, where = parameter.string_value, f"parameters {key!r}"
        if key in ("intra_op_thread_count", "inter_op_thread_count"):
            said[key.replace("_thread_count", "_threads")] = _count(value, where)
        elif key == "execution_mode":
            if value not in _MODES:
                raise WrongOption(f"{where}: {value!r} is neither 0 (sequential) nor 1 (parallel)")
            said["execution_mode"] = _MODES[value]
        elif key in _DEPRECATED_CUDA:
            if wrong := faults_of_options(CUDA_PROVIDER, {key: value}):
                raise WrongOption(f"{where}: {wrong[0]}")
            said.setdefault("provider_options", {}).setdefault(CUDA_PROVIDER, {})[key] = value
        elif key in _MEMORY_KEYS:
            remarks.append(f"{where} is ignored: the worker looks after memory, for all models together")
        elif key.startswith(_SESSION):
            if wrong := faults_of_config({key: value}):
                raise WrongOption(f"{where}: {wrong[0]}")
            said.setdefault("session_config", {})[key] = value
        elif not key.startswith("fleet."):
            remarks.append(f"{where} is kept and shown, and changes nothing")
    return said


def _count(value: str, where: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise WrongOption(f"{where}: {value!r} is no whole number") from error
