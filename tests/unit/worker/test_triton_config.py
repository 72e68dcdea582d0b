"""config.pbtxt as Triton's users write it: what is accepted, what it comes to mean, and what is refused in words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleet.contracts import DevicePolicy, Lane
from fleet.errors import ModelError
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, OPENVINO_PROVIDER, TENSORRT_PROVIDER
from fleet.tensors import DataType
from tests.support.triton_repository import add_sub, identity
from worker.engine.model_folder import ModelVersion, overridden, read_versions
from worker.tasks import find_tasks
from worker.triton.features import HONOURED, IGNORED, REFUSED
from worker.triton.schema import from_json, parse

TASKS = find_tasks()


def model(root: Path, config: str | None = None, manifest: str | None = None, batch: int | str = "b") -> Path:
    """A folder `m` with the add-and-subtract graph in version 1."""
    add_sub(root / "m" / "1" / "model.onnx", batch)
    if config is not None:
        (root / "m" / "config.pbtxt").write_text(config)
    if manifest is not None:
        (root / "m" / "model.yaml").write_text(manifest)
    return root / "m"


def served(root: Path, config: str | None = None, manifest: str | None = None) -> ModelVersion:
    (version,) = read_versions(model(root, config, manifest), TASKS)
    return version


def refused(root: Path, config: str, manifest: str | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_versions(model(root, config, manifest), TASKS)
    return caught.value


@pytest.mark.parametrize(
    "config",
    [
        'input: { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }',
        "input { name: 'x', data_type: TYPE_FP32; dims: 3 dims: -1 }",
        'input [ { name: "x" data_type: TYPE_FP32 dims: [3,-1] } ]',
        'input: [ { name: "x" data_type: TYPE_FP32 dims: [3 , -1] } ]',
        'input <name: "x" data_type: TYPE_FP32 dims: [3, -1]>',
        "# a comment\ninput { name: \"\" 'x' # another\n data_type: 11 dims: [0x3, -1] }",
    ],
)
def test_all_ways_to_write_a_field_mean_the_same(config: str) -> None:
    assert parse(config)[0] == parse('input { name: "x" data_type: TYPE_FP32 dims: 3 dims: -1 }')[0]


def test_a_map_is_written_as_entries_of_key_and_value() -> None:
    config, _ = parse('parameters { key: "a" value { string_value: "1" } } parameters: { key: "b" value: {} }')
    assert {key: item.string_value for key, item in config.parameters.items()} == {"a": "1", "b": ""}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("\n\n  nme: 'm'", "line 3, column 3: there is no field 'nme' in ModelConfig"),
        (
            "input {\n  name: 'x'\n  data_tpe: TYPE_FP32\n}",
            "line 3, column 3: there is no field 'data_tpe' in ModelInput",
        ),
        ("input { data_type: TYPE_FLOAT }", "no value named TYPE_FLOAT"),
        ("max_batch_size: many", "line 1, column 17: Couldn't parse integer: many"),
        ("max_batch_size: 1\nmax_batch_size: 2", 'should not have multiple "max_batch_size" fields'),
        ("input {\n name: 'x'", "line 2"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path, config: str, said: str) -> None:
    error = refused(tmp_path, config)
    assert error.code == "config-invalid"
    assert error.message.startswith("m/config.pbtxt: line ")
    assert said in error.message


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("name: 'other'", "name is 'other', and the folder's is 'm'"),
        ("platform: 'tensorrt_plan'", "Fleet serves ONNX graphs"),
        ("backend: 'python'", "Fleet serves ONNX graphs"),
        ("runtime: 'libtriton_mine.so'", "runtime is refused"),
        ("max_batch_size: -1", "cannot be negative"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: 1 allow_ragged_batch: true }", "input.allow_ragged_batch"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: 1 is_shape_tensor: true }", "input.is_shape_tensor"),
        ("input { data_type: TYPE_FP32 dims: 1 }", "an input has no name"),
        ("input { name: 'x' dims: 1 }", "input 'x' has no data_type"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: 0 }", "at least 1, or -1"),
        (
            "input { name: 'x' data_type: TYPE_FP32 dims: [2, 3] reshape { shape: [5] } }",
            "dims [2, 3] cannot be reshaped to [5]",
        ),
        (
            "input { name: 'x' data_type: TYPE_FP32 dims: [2, -1] reshape { shape: [-1, 2] } }",
            "cannot be reshaped",
        ),
        ("output { name: 'y' data_type: TYPE_FP32 dims: 1 label_filename: '../../secret' }", "label_file"),
        ("default_model_filename: '../../secret'", "must lie in the version's folder"),
        ("batch_input { kind: BATCH_ELEMENT_COUNT target_name: 'x' data_type: TYPE_FP32 }", "batch_input is refused"),
        ("sequence_batching { }", "no state is kept between requests"),
        ("ensemble_scheduling { step { model_name: 'a' } }", "a model is one graph"),
        ("instance_group { kind: KIND_CPU passive: true }", "all are passive"),
        ("instance_group { secondary_devices { kind: KIND_NVDLA } }", "secondary_devices"),
        ("cc_model_filenames { key: '8.0' value: 'a' }", "cc_model_filenames"),
        ("model_operations { op_library_filename: 'libmine.so' }", "code of strangers"),
        ("model_repository_agents { agents { name: 'checksum' } }", "agents are code of strangers"),
        ("model_transaction_policy { decoupled: true }", "a request has one answer"),
        ("version_policy { specific { } }", "names no version"),
        ("version_policy { specific { versions: 7 } }", "serves 7, and there are 1"),
        ("optimization { graph { level: 5 } }", "optimization.graph.level is 5"),
        (
            "optimization { execution_accelerators { gpu_execution_accelerator { name: 'magic' } } }",
            "no such accelerator here",
        ),
        (
            (
                "optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' parameters "
                "{ key: 'trt_extra_plugin_lib_paths' value: '/tmp/evil.so' } } } }"
            ),
            "trt_extra_plugin_lib_paths",
        ),
        ("parameters { key: 'intra_op_thread_count' value { string_value: 'two' } }", "no whole number"),
        ("parameters { key: 'execution_mode' value { string_value: '2' } }", "neither 0 (sequential) nor 1"),
        ("parameters { key: 'fleet.colour' value { string_value: 'red' } }", "Fleet knows no such parameter"),
        ("max_batch_size: 2 dynamic_batching { preferred_batch_size: 4 }", "[4] are above max_batch_size 2"),
        ("max_batch_size: 0 dynamic_batching { }", "without a max_batch_size"),
        (
            "max_batch_size: 2 dynamic_batching { priority_levels: 2 }",
            "it must lie in 1 to 2",
        ),
        (
            "max_batch_size: 2 dynamic_batching { default_queue_policy { max_queue_size: 5 } }",
            "MAX_WAITING_JOBS",
        ),
        (
            "max_batch_size: 2 dynamic_batching { default_queue_policy { timeout_action: DELAY } }",
            "timeout_action is refused",
        ),
        (
            "max_batch_size: 2 dynamic_batching { priority_queue_policy { key: 1 value { } } }",
            "all priorities have the same time",
        ),
        (
            "model_warmup { name: 'w' inputs { key: 'x' value { data_type: TYPE_FP32 dims: 1 } } }",
            "say zero_data, random_data or input_data_file",
        ),
        (
            (
                "model_warmup { name: 'w' inputs { key: 'x' value { data_type: TYPE_FP32 dims: 1 "
                "input_data_file: '../../secret' } } }"
            ),
            "file",
        ),
    ],
)
def test_what_fleet_does_not_do_is_refused_with_its_reason(tmp_path: Path, config: str, said: str) -> None:
    error = refused(tmp_path, config)
    assert error.code in ("config-invalid", "model-empty")
    assert said in error.message


def test_what_is_refused_is_told_with_its_line(tmp_path: Path) -> None:
    error = refused(
        tmp_path,
        """# input { is_shape_tensor: true }
        input [
          { name: "x { #" data_type: TYPE_FP32 dims: [ 1, -1 ] },
          { name: "y", data_type: TYPE_FP32, dims: -1,
            is_shape_tensor: true }
        ]
        sequence_batching {
        }
        model_transaction_policy: < decoupled: true >
        """,
    )
    assert [fault.partition(" is refused")[0] for fault in error.facts["faults"]] == [
        "line 5, input.is_shape_tensor",
        "line 7, sequence_batching",
        "line 9, model_transaction_policy.decoupled",
    ]


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    error = refused(tmp_path, "name: 'other' sequence_batching { } parameters { key: 'fleet.x' value { } }")
    assert len(error.facts["faults"]) == 3


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("response_cache { enable: true }", "response_cache.enable"),
        ("metric_tags { key: 'a' value: 'b' }", "metric_tags"),
        ("optimization { input_pinned_memory { enable: false } }", "optimization.input_pinned_memory"),
        ("optimization { cuda { graphs: true } }", "optimization.cuda"),
        ("instance_group { count: 1 gpus: [ 0, 1 ] }", "instance_group.gpus"),
        ("instance_group { rate_limiter { priority: 2 } }", "instance_group.rate_limiter"),
        ("max_batch_size: 2 dynamic_batching { preserve_ordering: true }", "preserve_ordering"),
        ("parameters { key: 'enable_mem_arena' value { string_value: '0' } }", "enable_mem_arena"),
        ("parameters { key: 'mine' value { string_value: '0' } }", "'mine' is kept and shown"),
        (
            (
                "optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' parameters "
                "{ key: 'trt_engine_cache_path' value: '/tmp' } } } }"
            ),
            "trt_engine_cache_path is ignored",
        ),
    ],
)
def test_what_makes_no_difference_is_ignored_with_a_word(tmp_path: Path, config: str, word: str) -> None:
    assert any(word in remark for remark in served(tmp_path, config).remarks)


def test_every_field_of_the_schema_has_its_place_in_one_table() -> None:
    """A field that Triton adds must be decided on, not overlooked; and a decision must be about a field."""
    top = {field.name for field in from_json({}).DESCRIPTOR.fields}
    assert top - {path.partition(".")[0] for path in (*HONOURED, *IGNORED, *REFUSED)} == set()
    for path in (*HONOURED, *IGNORED, *REFUSED):
        message = from_json({}).DESCRIPTOR
        for name in path.split("."):
            assert name in message.fields_by_name, path
            message = message.fields_by_name[name].message_type
    assert not set(IGNORED) & set(REFUSED)


WHOLE = """
backend: "onnxruntime"
max_batch_size: 8
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 1500
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { default_timeout_microseconds: 5000000 allow_timeout_override: true }
}
instance_group [ { kind: KIND_GPU count: 2 } ]
optimization {
  graph { level: 1 }
  execution_accelerators {
    gpu_execution_accelerator [ {
      name: "tensorrt"
      parameters { key: "precision_mode" value: "FP16" }
      parameters { key: "max_workspace_size_bytes" value: "1073741824" }
    } ]
    cpu_execution_accelerator { name: "openvino" }
  }
}
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
parameters { key: "inter_op_thread_count" value { string_value: "3" } }
parameters { key: "execution_mode" value { string_value: "1" } }
parameters { key: "session.use_device_allocator_for_initializers" value { string_value: "1" } }
parameters { key: "gpu_mem_limit" value { string_value: "1000000" } }
parameters { key: "fleet.pin" value { string_value: "true" } }
model_warmup {
  name: "zeros" batch_size: 2 count: 3
  inputs { key: "INPUT0" value { data_type: TYPE_INT32 dims: 16 zero_data: true } }
  inputs { key: "INPUT1" value { data_type: TYPE_INT32 dims: 16 input_data_file: "ones" } }
}
version_policy { all { } }
"""


def test_every_honoured_field_reaches_the_manifest(tmp_path: Path) -> None:
    manifest = served(tmp_path, WHOLE).manifest
    assert manifest.batching.model_dump() == {
        "max_batch_size": 8, "dynamic": True, "preferred": [4, 8], "max_delay_ms": 1.5, "instances": 2,
    }  # fmt: skip
    assert (manifest.priorities.levels, manifest.priorities.default) == (3, 2)
    assert manifest.deadline_s == 5
    assert manifest.device is DevicePolicy.GPU_ONLY
    assert manifest.onnx.graph_optimization == "extended"
    assert manifest.onnx.providers == [TENSORRT_PROVIDER, CUDA_PROVIDER, OPENVINO_PROVIDER, CPU_PROVIDER]
    assert manifest.onnx.provider_options[TENSORRT_PROVIDER]["precision_mode"] == "FP16"
    assert manifest.onnx.provider_options[CUDA_PROVIDER] == {"gpu_mem_limit": "1000000"}
    assert (manifest.onnx.intra_op_threads, manifest.onnx.inter_op_threads) == (2, 3)
    assert manifest.onnx.execution_mode == "parallel"
    assert manifest.onnx.session_config == {"session.use_device_allocator_for_initializers": "1"}
    assert manifest.pin
    (warmup,) = manifest.warmup
    assert (warmup.name, warmup.batch_size, warmup.count) == ("zeros", 2, 3)
    assert warmup.inputs["INPUT1"].file == "ones"
    assert manifest.versions.latest is None
    assert manifest.versions.specific is None


@pytest.mark.parametrize(
    ("groups", "policy"),
    [
        ("instance_group { kind: KIND_CPU }", DevicePolicy.CPU_ONLY),
        ("instance_group { kind: KIND_GPU }", DevicePolicy.GPU_ONLY),
        ("instance_group { count: 1 }", DevicePolicy.PREFER_GPU),
        ("instance_group [ { kind: KIND_GPU }, { kind: KIND_CPU } ]", DevicePolicy.ANY),
        ("instance_group [ { kind: KIND_GPU }, { kind: KIND_CPU passive: true } ]", DevicePolicy.GPU_ONLY),
        ("parameters { key: 'fleet.device' value { string_value: 'any' } }", DevicePolicy.ANY),
    ],
)
def test_instance_groups_say_where_a_model_runs(tmp_path: Path, groups: str, policy: DevicePolicy) -> None:
    assert served(tmp_path, groups).manifest.device is policy


def test_nothing_but_a_graph_is_enough_and_is_filled_in_as_triton_does(tmp_path: Path) -> None:
    version = served(tmp_path)
    assert (version.task.name, version.manifest.lane) == ("tensors", Lane.INTERACTIVE)
    assert (version.manifest.batching.max_batch_size, version.manifest.batching.dynamic) == (4, True)
    assert [(it.name, it.datatype, it.shape) for it in version.signature.inputs] == [
        ("INPUT0", DataType.INT32, (-1, 16)), ("INPUT1", DataType.INT32, (-1, 16)),
    ]  # fmt: skip


def test_a_graph_with_a_fixed_first_dimension_is_not_batched(tmp_path: Path) -> None:
    (version,) = read_versions(model(tmp_path, batch=1), TASKS)
    assert version.manifest.batching.max_batch_size == 0
    assert version.signature.inputs[0].shape == (1, 16)


def test_an_explicit_zero_is_honoured_and_said(tmp_path: Path) -> None:
    version = served(tmp_path, "max_batch_size: 0")
    assert version.manifest.batching.max_batch_size == 0
    assert any("max_batch_size 0 is honoured" in remark for remark in version.remarks)


def test_dims_that_name_every_dimension_of_the_graph_mean_no_batch(tmp_path: Path) -> None:
    pair = "".join(f"input {{ name: 'INPUT{n}' data_type: TYPE_INT32 dims: [-1, 16] }}" for n in (0, 1))
    version = served(tmp_path, pair)
    assert version.manifest.batching.max_batch_size == 0
    assert version.manifest.inputs[0].shape == [-1, 16]


VERSIONS = [1, 2, 3, 10]


@pytest.mark.parametrize(
    ("config", "manifest", "numbers"),
    [
        (None, None, [10]),
        ("", None, [10]),
        ("version_policy { latest { num_versions: 2 } }", None, [3, 10]),
        ("version_policy: { all { } }", None, VERSIONS),
        ("version_policy: { specific: { versions: [ 1, 3, 9 ] } }", None, [1, 3]),
        (None, "task: tensors", VERSIONS),
        (None, "task: tensors\nversions: {latest: 1}", [10]),
        ("", "task: tensors", [10]),
        ("", "task: tensors\nversions: {specific: [2]}", [2]),
    ],
)
def test_the_version_policy_says_what_is_served(
    tmp_path: Path, config: str | None, manifest: str | None, numbers: list[int]
) -> None:
    folder = model(tmp_path, config, manifest)
    for number in (*VERSIONS, "01", "notes"):
        add_sub(folder / str(number) / "model.onnx")
    assert [version.version for version in read_versions(folder, TASKS)] == numbers


def test_a_version_that_was_brought_in_is_served_whatever_the_policy_says(tmp_path: Path) -> None:
    folder = model(tmp_path, "version_policy { specific { versions: 7 } }")
    assert [version.version for version in read_versions(folder, TASKS, every=True)] == [1]


def test_a_broken_version_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    folder = model(tmp_path, "version_policy { all { } }")
    (folder / "2").mkdir()
    (folder / "2" / "model.onnx").write_bytes(b"half a fi")
    assert [version.version for version in read_versions(folder, TASKS)] == [1]


def test_both_files_say_one_model_together(tmp_path: Path) -> None:
    version = served(tmp_path, "max_batch_size: 8", "task: tensors\nlane: bulk\ndescription: sums\nlabels: {1: one}")
    assert (version.manifest.lane, version.manifest.description) == (Lane.BULK, "sums")
    assert version.manifest.batching.max_batch_size == 8


def test_both_files_may_say_the_same(tmp_path: Path) -> None:
    yaml = "task: tensors\ndevice: cpu-only\nbatching: {max_batch_size: 8, max_delay_ms: 2}"
    manifest = served(tmp_path, "max_batch_size: 8 instance_group { kind: KIND_CPU count: 2 }", yaml).manifest
    assert (manifest.batching.instances, manifest.batching.max_delay_ms) == (2, 2.0)


@pytest.mark.parametrize(
    ("config", "yaml", "path"),
    [
        ("max_batch_size: 8", "batching: {max_batch_size: 4}", "batching.max_batch_size"),
        ("instance_group { kind: KIND_CPU }", "device: gpu-only", "device"),
        ("version_policy { all { } }", "versions: {latest: 1}", "versions"),
        ("optimization { graph { level: 2 } }", "onnx: {graph_optimization: all}", "onnx.graph_optimization"),
        (
            "max_batch_size: 0 input { name: 'INPUT0' data_type: TYPE_INT32 dims: [ -1, 16 ] }",
            "inputs: [{name: INPUT0, datatype: FP32, shape: [-1, 16]}]",
            "inputs.INPUT0.datatype",
        ),
        (
            "max_batch_size: 0 input { name: 'INPUT0' data_type: TYPE_INT32 dims: [ -1, 16 ] }",
            "inputs: [{name: INPUT7, datatype: INT32, shape: [-1, 16]}]",
            "inputs",
        ),
    ],
)
def test_files_that_disagree_are_an_error_that_names_both(tmp_path: Path, config: str, yaml: str, path: str) -> None:
    error = refused(tmp_path, config, f"task: tensors\n{yaml}")
    assert error.code == "config-conflict"
    assert f"{path}: config.pbtxt" in error.message
    assert "model.yaml" in error.message


def test_the_graph_may_be_a_folder_and_have_another_name(tmp_path: Path) -> None:
    folder = model(tmp_path, "default_model_filename: 'net.onnx'")
    identity(folder / "2" / "net.onnx" / "model.onnx")
    (version,) = read_versions(folder, TASKS)
    assert version.version == 2
    assert version.graph == folder / "2" / "net.onnx" / "model.onnx"
    assert [tensor.name for tensor in version.signature.inputs] == ["x"]


def test_the_card_answers_as_tritons_config_does(tmp_path: Path) -> None:
    card = served(tmp_path, WHOLE).card()
    config = card.config
    assert next((it.name, it.datatype, it.shape) for it in card.inputs) == ("INPUT0", DataType.INT32, [-1, 16])
    assert card.max_batch_size == config["max_batch_size"] == 8
    assert config["name"] == "m"
    assert config["input"][0]["dims"] == [16]
    assert config["input"][0]["data_type"] == "TYPE_INT32"
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 1500
    assert config["dynamic_batching"]["default_queue_policy"]["default_timeout_microseconds"] == 5_000_000
    assert config["version_policy"] == {"all": {}}
    assert config["instance_group"][0]["count"] == 2
    assert config["parameters"]["fleet.device"] == {"string_value": "gpu-only"}
    assert config["parameters"]["intra_op_thread_count"] == {"string_value": "2"}


@pytest.mark.parametrize(
    "manifest",
    [
        "task: echo\ndevice: any",
        "task: tensors\nonnx: {graph_optimization: basic, intra_op_threads: 3, execution_mode: parallel}",
        "task: tensors\ndeadline_s: 2.5\npin: true\nlane: interactive",
        "task: tensors\nbatching: {max_batch_size: 6, dynamic: true, preferred: [2], max_delay_ms: 3, instances: 2}",
        "task: tensors\npriorities: {levels: 3, default: 1}\nbatching: {max_batch_size: 2, dynamic: true}",
        "task: tensors\nonnx: {providers: [TensorrtExecutionProvider, CUDAExecutionProvider, CPUExecutionProvider]}",
        "task: tensors\nwarmup: [{name: w, inputs: {INPUT0: {datatype: INT32, shape: [1, 16], fill: random}}}]",
        "task: tensors\nversions: {specific: [1]}",
    ],
)
def test_a_manifest_survives_the_way_through_tritons_configuration(tmp_path: Path, manifest: str) -> None:
    version = served(tmp_path, None, manifest)
    again = overridden(version, version.card().config)
    ours = again.manifest.model_dump(exclude={"inputs", "outputs"})
    assert ours == version.manifest.model_dump(exclude={"inputs", "outputs"})
    assert again.signature == version.signature
    assert again.card().config == version.card().config


@pytest.mark.parametrize(
    ("config", "size"),
    [({"max_batch_size": "2"}, 2), ({"maxBatchSize": 0}, 0), ({"backend": "onnxruntime"}, 4)],
)
def test_an_override_stands_in_the_place_of_the_file(tmp_path: Path, config: dict[str, Any], size: int) -> None:
    version = served(tmp_path, WHOLE)
    other = overridden(version, config)
    assert other.manifest.batching.max_batch_size == size
    assert other.manifest.deadline_s is None, "what the file said is gone"
    assert version.manifest.batching.max_batch_size == 8


def test_an_override_stands_above_model_yaml_without_its_task(tmp_path: Path) -> None:
    version = served(tmp_path, None, "task: tensors\ndevice: cpu-only\ndescription: sums")
    other = overridden(version, {"instance_group": [{"kind": "KIND_GPU", "count": "3"}]})
    assert (other.manifest.device, other.manifest.batching.instances) == (DevicePolicy.GPU_ONLY, 3)
    assert other.manifest.description == "sums"


@pytest.mark.parametrize("config", [{"no_such": 1}, {"max_batch_size": "many"}, {"sequence_batching": {}}])
def test_an_override_that_makes_no_sense_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        overridden(served(tmp_path), config)
    assert caught.value.code == "config-invalid"


@given(
    size=st.integers(1, 64),
    dynamic=st.booleans(),
    delay_us=st.integers(0, 60_000_000),
    instances=st.integers(0, 8),
    levels=st.integers(0, 9),
    deadline_us=st.none() | st.integers(1, 10**12),
    device=st.sampled_from(DevicePolicy),
    lane=st.sampled_from(Lane),
    level=st.sampled_from(["all", "extended", "basic", "off"]),
    threads=st.integers(0, 64),
    latest=st.none() | st.integers(1, 5),
)
@example(5, True, 0, 1, 0, None, DevicePolicy.ANY, Lane.BULK, "all", 0, None)
@settings(max_examples=60, deadline=None)
def test_whatever_model_yaml_says_survives_the_way_through_tritons_configuration(
    tmp_path_factory: pytest.TempPathFactory, size: int, dynamic: bool, delay_us: int, instances: int, levels: int,
    deadline_us: int | None, device: DevicePolicy, lane: Lane, level: str, threads: int, latest: int | None,
) -> None:  # fmt: skip
    said = {
        "task": "tensors",
        "lane": lane.value,
        "device": device.value,
        "batching": {
            "max_batch_size": size,
            "dynamic": dynamic,
            "max_delay_ms": delay_us / 1000 if dynamic else 0,
            "instances": instances,
        },
        "priorities": {"levels": levels, "default": (levels + 1) // 2} if dynamic else {},
        "onnx": {"graph_optimization": level, "intra_op_threads": threads},
        "versions": {"latest": latest},
        "deadline_s": None if deadline_us is None else deadline_us / 1e6,
    }
    version = served(tmp_path_factory.mktemp("models"), None, yaml.safe_dump(said))
    # The configuration alone, as in a folder without a model.yaml.
    again = overridden(replace(version, yaml=None), version.card().config)
    ours = again.manifest.model_dump(exclude={"inputs", "outputs"})
    assert ours == version.manifest.model_dump(exclude={"inputs", "outputs"})
