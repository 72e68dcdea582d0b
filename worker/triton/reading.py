"""From Triton's configuration to what it says of a manifest's fields. Shapes wait for the graph (completion.py)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fleet.errors import ModelError
from fleet.model_names import MAX_VERSION
from fleet.model_source import InnerPath
from fleet.tensors import DataType
from worker.triton.accelerators import LEVELS, WrongOption, providers, session_options
from worker.triton.features import refusals, remarks

PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
#: Parameters of ours, for what Triton has no field: name -> the manifest's field, and how to read it.
FLEET_PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "fleet.device": ("device", str),
    "fleet.lane": ("lane", str),
    "fleet.pin": ("pin", lambda text: text == "true"),
    "fleet.deadline_s": ("deadline_s", float),
    "fleet.execution_timeout_s": ("execution_timeout_s", float),
    "fleet.max_attempts": ("max_attempts", int),
    "fleet.dynamic_batching": ("batching.dynamic", lambda text: text == "true"),
    "fleet.instances": ("batching.instances", int),
}
#: Written into what we answer, and passed over when it comes back.
FLEET_FACTS = frozenset({"fleet.task", "fleet.sha256"})
_FREE = -1
_INNER: TypeAdapter[str] = TypeAdapter(InnerPath)


@dataclass(frozen=True)
class Said:
    """What a configuration says: only what it says, defaults left out."""

    #: As model.yaml would say it, tensors and `max_batch_size` aside.
    fields: dict[str, Any]
    #: As DeclaredTensor, with shapes as `dims` has them.
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    max_batch_size: int | None = None
    #: In words: what of it makes no difference here.
    remarks: list[str] = field(default_factory=list)


def read(config: Any, says_batch_size: bool, model: str, text: str = "") -> Said:
    """config: a ModelConfig message; `text`: the file that it is from.

    Raises ModelError `config-invalid` with all that is wrong in it.
    """
    words = remarks(config)
    wrong = refusals(config, text)

    def part(reading: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return reading()
        except WrongOption as error:
            wrong.append(str(error))
            return {}

    wrong += _strangers(config, model)
    onnx = {**part(lambda: _graph(config)), **part(lambda: providers(config, words))}
    for key, value in part(lambda: session_options(config.parameters, words)).items():
        onnx[key] = {**value, **onnx[key]} if key in onnx else value
    fields: dict[str, Any] = {"onnx": onnx} if onnx else {}
    for reading in (_versions, _groups, _batching, _queue, _warmup, _fleet):
        said = part(lambda reading=reading: reading(config))  # type: ignore[misc]
        batching = {**fields.get("batching", {}), **said.get("batching", {})}
        fields |= said | ({"batching": batching} if batching else {})
    fields |= part(lambda: _graph_name(config))
    inputs = [part(lambda it=it: _tensor(it, "input")) for it in config.input]  # type: ignore[misc]
    outputs = [part(lambda it=it: _tensor(it, "output")) for it in config.output]  # type: ignore[misc]
    if says_batch_size and config.max_batch_size < 0:
        wrong.append(f"max_batch_size is {config.max_batch_size}: it cannot be negative")
    if wrong:
        raise ModelError("; ".join(wrong), code="config-invalid", faults=wrong)
    return Said(fields, inputs, outputs, config.max_batch_size if says_batch_size else None, words)


def _strangers(config: Any, model: str) -> list[str]:
    wrong = []
    if config.name and config.name != model:
        wrong.append(f"name is {config.name!r}, and the folder's is {model!r}: they must be the same")
    if config.platform not in ("", PLATFORM) or config.backend not in ("", BACKEND):
        wrong.append(
            f"platform {config.platform!r}, backend {config.backend!r}: Fleet serves ONNX graphs, which are "
            f"{PLATFORM!r} or backend {BACKEND!r}"
        )
    return wrong


def _graph_name(config: Any) -> dict[str, Any]:
    if not config.default_model_filename:
        return {}
    try:
        return {"graph": _INNER.validate_python(config.default_model_filename)}
    except ValidationError as error:
        raise WrongOption(
            f"default_model_filename is {config.default_model_filename!r}: it must lie in the version's folder"
        ) from error


def _graph(config: Any) -> dict[str, Any]:
    if not config.optimization.HasField("graph"):
        return {}
    level = config.optimization.graph.level
    if level not in LEVELS:
        raise WrongOption(f"optimization.graph.level is {level}: it may be -1, 0, 1 or 2")
    return {"graph_optimization": LEVELS[level]}


def _versions(config: Any) -> dict[str, Any]:
    match config.version_policy.WhichOneof("policy_choice"):
        case "all":
            return {"versions": {}}
        case "specific":
            versions = list(config.version_policy.specific.versions)
            if not versions or not all(1 <= version <= MAX_VERSION for version in versions):
                raise WrongOption(f"version_policy.specific names {versions or 'no version'}: they count from 1")
            return {"versions": {"specific": versions}}
        case "latest":
            return {"versions": {"latest": min(max(1, config.version_policy.latest.num_versions), MAX_VERSION)}}
    return {}


def _groups(config: Any) -> dict[str, Any]:
    """Instances are counted per device, and each worker has one device."""
    groups = [group for group in config.instance_group if not group.passive]
    if not groups:
        if config.instance_group:
            raise WrongOption("instance_group: all are passive, and then nothing would run")
        return {}
    kinds = {type(group).Kind.Name(group.kind) for group in groups}
    said: dict[str, Any] = {}
    if kinds == {"KIND_CPU"}:
        said["device"] = "cpu-only"
    elif kinds == {"KIND_GPU"}:
        said["device"] = "gpu-only"
    elif kinds >= {"KIND_CPU", "KIND_GPU"}:
        said["device"] = "any"
    counts = [
        sum(group.count for group in groups if group.kind == kind and group.count > 0)
        for kind in {group.kind for group in groups}
    ]
    return {**said, "batching": {"instances": max(counts)}} if max(counts) else said


def _batching(config: Any) -> dict[str, Any]:
    if not config.HasField("dynamic_batching"):
        return {}
    policy = config.dynamic_batching
    said: dict[str, Any] = {"dynamic": True}
    if policy.preferred_batch_size:
        said["preferred"] = list(policy.preferred_batch_size)
    if policy.max_queue_delay_microseconds:
        said["max_delay_ms"] = policy.max_queue_delay_microseconds / 1000
    return {"batching": said}


def _queue(config: Any) -> dict[str, Any]:
    policy, said = config.dynamic_batching, {}
    if policy.priority_levels:
        if not 1 <= policy.default_priority_level <= policy.priority_levels:
            raise WrongOption(
                f"dynamic_batching.default_priority_level is {policy.default_priority_level}: with priority_levels "
                f"it must lie in 1 to {policy.priority_levels}"
            )
        said["priorities"] = {"levels": policy.priority_levels, "default": policy.default_priority_level}
    elif policy.default_priority_level:
        raise WrongOption("dynamic_batching.default_priority_level needs priority_levels")
    if timeout := policy.default_queue_policy.default_timeout_microseconds:
        said["deadline_s"] = timeout / 1e6
    return said


def _tensor(tensor: Any, kind: str) -> dict[str, Any]:
    where = f"{kind} {tensor.name!r}"
    datatype = _datatype(tensor)
    if not tensor.name:
        raise WrongOption(f"an {kind} has no name")
    if datatype is None:
        raise WrongOption(f"{where} has no data_type")
    reshape = list(tensor.reshape.shape) if tensor.HasField("reshape") else None
    for sizes in (list(tensor.dims), reshape or []):
        if any(size != _FREE and size < 1 for size in sizes):
            raise WrongOption(f"{where}: dims and reshape hold sizes of at least 1, or -1 for any, not {sizes}")
    if reshape is not None and not _same_elements(list(tensor.dims), reshape):
        raise WrongOption(
            f"{where}: dims {list(tensor.dims)} cannot be reshaped to {reshape}: as many elements are needed, and as "
            "many free dimensions"
        )
    said = {"name": tensor.name, "datatype": datatype, "shape": list(tensor.dims)}
    if reshape is not None:
        said["reshape"] = reshape
    if kind == "input" and tensor.optional:
        said["optional"] = True
    if kind == "output" and tensor.label_filename:
        said["label_file"] = tensor.label_filename
    return said


def _datatype(tensor: Any) -> str | None:
    """KServe's name of it; None where none is said."""
    names = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    name = str(names[tensor.data_type].name).removeprefix("TYPE_") if tensor.data_type in names else "INVALID"
    return {"INVALID": None, "STRING": DataType.BYTES.value}.get(name, name)


def _same_elements(dims: list[int], reshape: list[int]) -> bool:
    """Between one free dimension and the next, both must hold as many elements."""
    return _products(dims) == _products(reshape)


def _products(sizes: list[int]) -> list[int]:
    products = [1]
    for size in sizes:
        if size == _FREE:
            products.append(1)
        else:
            products[-1] *= size
    return products


def _warmup(config: Any) -> dict[str, Any]:
    return {"warmup": [_sample(sample) for sample in config.model_warmup]} if config.model_warmup else {}


def _sample(sample: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"name": sample.name, "inputs": {}}
    if sample.batch_size:
        said["batch_size"] = sample.batch_size
    if sample.count:
        said["count"] = sample.count
    for name, given in sample.inputs.items():
        datatype = _datatype(given)
        source = given.WhichOneof("input_data_type")
        if datatype is None or any(size < 0 for size in given.dims):
            raise WrongOption(f"model_warmup {sample.name!r}, {name!r}: it needs a data_type, and dims without -1")
        tensor = {"datatype": datatype, "shape": list(given.dims)}
        if source == "input_data_file":
            tensor["file"] = given.input_data_file
        elif source is None:
            raise WrongOption(f"model_warmup {sample.name!r}, {name!r}: say zero_data, random_data or input_data_file")
        else:
            tensor["fill"] = "random" if source == "random_data" else "zero"
        said["inputs"][name] = tensor
    return said


def _fleet(config: Any) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for key, parameter in config.parameters.items():
        if key in FLEET_PARAMETERS:
            (*above, name), reading = FLEET_PARAMETERS[key][0].split("."), FLEET_PARAMETERS[key][1]
            place = said.setdefault(above[0], {}) if above else said
            try:
                place[name] = reading(parameter.string_value)
            except ValueError as error:
                raise WrongOption(f"parameters {key!r}: {parameter.string_value!r} cannot be read") from error
        elif key.startswith("fleet.") and key not in FLEET_FACTS:
            known = ", ".join(FLEET_PARAMETERS)
            raise WrongOption(f"parameters {key!r}: Fleet knows no such parameter; it knows {known}")
    return said
