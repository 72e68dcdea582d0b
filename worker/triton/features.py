"""What Fleet does with each field of Triton's configuration: honours it, ignores it with a word, or refuses it.

A path is that of a field in config.pbtxt, without indices; a field stands for all beneath it that is not named itself.
Only what a configuration really says counts: defaults that are written out do not.
"""

from collections.abc import Iterator

from google.protobuf.message import Message

from worker.triton.lines import lines_of

_RAGGED = "requests are joined along the batch dimension alone"
_TENSORRT = "it belongs to engines of TensorRT, and this is an ONNX graph"

HONOURED = frozenset({
    "name", "platform", "backend", "version_policy", "max_batch_size", "default_model_filename", "parameters",
    "model_warmup", "input", "output", "dynamic_batching", "instance_group", "optimization", "response_cache",
    "model_transaction_policy",
})  # fmt: skip

#: Path -> why it makes no difference here.
IGNORED: dict[str, str] = {
    "input.format": "it only describes the order of the dimensions",
    "dynamic_batching.preserve_ordering": "each request gets its own answer, whatever ends first",
    "dynamic_batching.default_queue_policy.allow_timeout_override": "a request may always ask for less time",
    "dynamic_batching.priority_queue_policy.value.allow_timeout_override": "a request may always ask for less time",
    "instance_group.name": "instances have no names here",
    "instance_group.gpus": "each worker has one device, so which of them serve is said where workers are started",
    "instance_group.rate_limiter": "how many run at once is said by `count` and by the workers",
    "instance_group.host_policy": "it names settings of Triton's command line",
    "optimization.priority": _TENSORRT,
    "optimization.cuda": "ONNX Runtime makes its own use of streams and graphs",
    "optimization.input_pinned_memory": "ONNX Runtime copies by itself",
    "optimization.output_pinned_memory": "ONNX Runtime copies by itself",
    "optimization.gather_kernel_buffer_threshold": "ONNX Runtime copies by itself",
    "optimization.eager_batching": "inputs are always gathered before a run",
    "response_cache.enable": "there is no cache of answers: the model runs each time",
    "metric_tags": "metrics carry the model's name and version alone",
    "model_metrics": "histograms have the same buckets for all models",
}

#: Path -> why a model that asks for it is not served.
REFUSED: dict[str, str] = {
    "runtime": "the runtime is the worker's own ONNX Runtime",
    "input.is_shape_tensor": _TENSORRT,
    "input.is_non_linear_format_io": _TENSORRT,
    "input.allow_ragged_batch": _RAGGED,
    "output.is_shape_tensor": _TENSORRT,
    "output.is_non_linear_format_io": _TENSORRT,
    "batch_input": _RAGGED,
    "batch_output": _RAGGED,
    "dynamic_batching.default_queue_policy.timeout_action": "a request whose time is over ends (REJECT)",
    "dynamic_batching.default_queue_policy.max_queue_size": (
        "what may wait is bounded for each lane and tenant (MAX_WAITING_JOBS), not for each model"
    ),
    "dynamic_batching.priority_queue_policy": "all priorities have the same time: give `default_queue_policy` alone",
    "sequence_batching": "each job stands alone, and may run on any worker: no state is kept between requests",
    "ensemble_scheduling": "a model is one graph: call one after the other, or write a task",
    "instance_group.secondary_devices": "a model runs on one device",
    "instance_group.profile": _TENSORRT,
    "cc_model_filenames": "the graph is the same on every device: `default_model_filename` names it",
    "model_operations": "libraries of custom operators are code of strangers, and are not loaded",
    "model_transaction_policy.decoupled": "a request has one answer",
    "model_repository_agents": "agents are code of strangers, and are not loaded",
}


def said_paths(config: Message, above: str = "") -> Iterator[str]:
    """The paths of all that the configuration says, each once per place."""
    for field, value in config.ListFields():
        path = f"{above}{field.name}"
        yield path
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for item in value.values():
                    yield from said_paths(item, f"{path}.value.")
        else:
            for item in value if field.is_repeated else [value]:
                yield from said_paths(item, f"{path}.")


def refusals(config: Message, text: str = "") -> list[str]:
    """A sentence for each field that keeps the model from being served; with its line in `text`, where there is one."""
    found = _found(config, REFUSED)
    lines = lines_of(text) if found else {}
    places = {path: f"line {lines[path]}, " for path, _ in found if path in lines}
    return [f"{places.get(path, '')}{path} is refused: {reason}" for path, reason in found]


def remarks(config: Message) -> list[str]:
    """A sentence for each field that makes no difference."""
    return [f"{path} is ignored: {reason}" for path, reason in _found(config, IGNORED)]


def _found(config: Message, table: dict[str, str]) -> list[tuple[str, str]]:
    said = dict.fromkeys(said_paths(config))
    return [(path, table[path]) for path in said if path in table]
