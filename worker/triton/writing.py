"""A manifest as Triton's configuration: what the author wrote, and what it left to us, filled in."""

from typing import Any

from fleet.contracts import DevicePolicy
from fleet.settings import CPU_PROVIDER
from fleet.tensors import DataType
from worker.contract import RequestTensor, Signature
from worker.engine.manifest import Manifest, Warmup
from worker.triton.accelerators import LEVELS, PROVIDERS
from worker.triton.reading import BACKEND, PLATFORM
from worker.triton.schema import from_json, to_json

_KINDS = {DevicePolicy.GPU_ONLY: "KIND_GPU", DevicePolicy.CPU_ONLY: "KIND_CPU"}


def config_of(
    name: str, manifest: Manifest, signature: Signature | None, written: dict[str, Any] | None = None
) -> dict[str, Any]:
    """JSON as `/v2/models/{name}/config` answers it. `written`: the author's own configuration, in the same form."""
    said: dict[str, Any] = dict(written or {})
    batching = manifest.batching
    said |= {"name": name, "platform": PLATFORM, "backend": BACKEND, "max_batch_size": batching.max_batch_size}
    said["default_model_filename"] = manifest.graph
    said.setdefault("version_policy", _policy(manifest))
    if signature is not None:
        batched = batching.max_batch_size > 0
        said["input"] = said.get("input") or [_tensor(tensor, batched) for tensor in signature.inputs]
        said["output"] = said.get("output") or [
            _tensor(tensor, batched) | _labels(manifest, tensor) for tensor in signature.outputs
        ]
    if batching.dynamic:
        said.setdefault("dynamic_batching", _dynamic(manifest))
    if not said.get("instance_group"):
        kind = _KINDS.get(manifest.device, "KIND_AUTO")
        said["instance_group"] = [{"kind": kind, "count": batching.instances}]
    said["optimization"] = {**_optimization(manifest), **said.get("optimization", {})}
    said["parameters"] = {**_parameters(manifest), **said.get("parameters", {}), **_fleet(manifest)}
    if manifest.warmup:
        said["model_warmup"] = said.get("model_warmup") or [_sample(warmup) for warmup in manifest.warmup]
    return to_json(from_json(said))


def _policy(manifest: Manifest) -> dict[str, Any]:
    versions = manifest.versions
    if versions.specific is not None:
        return {"specific": {"versions": versions.specific}}
    return {"all": {}} if versions.latest is None else {"latest": {"num_versions": versions.latest}}


def _config_type(datatype: DataType) -> str:
    return "TYPE_STRING" if datatype is DataType.BYTES else f"TYPE_{datatype.value}"


def _tensor(tensor: RequestTensor, batched: bool) -> dict[str, Any]:
    shape = [-1] if tensor.shape is None else list(tensor.shape)
    said: dict[str, Any] = {"name": tensor.name, "data_type": _config_type(tensor.datatype)}
    said["dims"] = shape[1:] if batched and tensor.shape is not None else shape
    if tensor.graph_shape is not None:
        said["reshape"] = {"shape": list(tensor.graph_shape[1:] if batched else tensor.graph_shape)}
    return {**said, "optional": True} if tensor.optional else said


def _labels(manifest: Manifest, tensor: RequestTensor) -> dict[str, Any]:
    files = {declared.name: declared.label_file for declared in manifest.outputs if declared.label_file}
    return {"label_filename": files[tensor.name]} if tensor.name in files else {}


def _dynamic(manifest: Manifest) -> dict[str, Any]:
    batching, priorities = manifest.batching, manifest.priorities
    said: dict[str, Any] = {
        "preferred_batch_size": batching.preferred,
        "max_queue_delay_microseconds": round(batching.max_delay_ms * 1000),
        "priority_levels": priorities.levels,
        "default_priority_level": priorities.default,
    }
    if manifest.deadline_s is not None:
        said["default_queue_policy"] = {"default_timeout_microseconds": round(manifest.deadline_s * 1e6)}
    return said


def _optimization(manifest: Manifest) -> dict[str, Any]:
    onnx, said = manifest.onnx, {}
    if onnx.graph_optimization != "all":
        level = next(number for number, word in LEVELS.items() if word == onnx.graph_optimization)
        said["graph"] = {"level": level}
    names = {provider: name for name, provider in PROVIDERS.items()}
    chosen = [] if onnx.providers == "auto" else [it for it in onnx.providers if it != CPU_PROVIDER and it in names]
    accelerators: dict[str, list[dict[str, Any]]] = {}
    for provider in chosen:
        side = "cpu_execution_accelerator" if names[provider] == "openvino" else "gpu_execution_accelerator"
        options = onnx.provider_options.get(provider, {})
        accelerators.setdefault(side, []).append({"name": names[provider], "parameters": options})
    return {**said, "execution_accelerators": accelerators} if accelerators else said


def _parameters(manifest: Manifest) -> dict[str, Any]:
    onnx = manifest.onnx
    said: dict[str, str] = dict(onnx.session_config)
    if onnx.intra_op_threads:
        said["intra_op_thread_count"] = str(onnx.intra_op_threads)
    if onnx.inter_op_threads:
        said["inter_op_thread_count"] = str(onnx.inter_op_threads)
    if onnx.execution_mode != "sequential":
        said["execution_mode"] = "1"
    return {key: {"string_value": value} for key, value in said.items()}


def _fleet(manifest: Manifest) -> dict[str, Any]:
    said = {"fleet.task": manifest.task, "fleet.device": manifest.device.value, "fleet.lane": manifest.lane.value}
    if manifest.pin:
        said["fleet.pin"] = "true"
    # What would be filled in where Triton's own fields say nothing.
    if manifest.batching.max_batch_size > 1 and not manifest.batching.dynamic:
        said["fleet.dynamic_batching"] = "false"
    if not manifest.batching.instances:
        said["fleet.instances"] = "0"
    if manifest.deadline_s is not None:
        said["fleet.deadline_s"] = str(manifest.deadline_s)
    return {key: {"string_value": value} for key, value in said.items()}


def _sample(warmup: Warmup) -> dict[str, Any]:
    said: dict[str, Any] = {"name": warmup.name, "batch_size": warmup.batch_size, "count": warmup.count, "inputs": {}}
    for name, tensor in warmup.inputs.items():
        given: dict[str, Any] = {"data_type": _config_type(tensor.datatype), "dims": tensor.shape}
        if tensor.file is not None:
            given["input_data_file"] = tensor.file
        else:
            given["random_data" if tensor.fill == "random" else "zero_data"] = True
        said["inputs"][name] = given
    return said
