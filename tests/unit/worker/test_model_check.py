"""`check_model` and its parts: what is declared against the graph, warm-up, the example, and lines of files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from fleet.contracts import DevicePolicy
from fleet.errors import ModelError
from fleet.tensors import pack
from tests.support.triton_repository import add_sub, make_repository, save_graph
from worker.contract import Array
from worker.engine.checking import inspect
from worker.engine.model_folder import ModelVersion, check_model, read_versions
from worker.engine.warming import warm
from worker.media.tensors import blob_of
from worker.tasks import find_tasks

TASKS = find_tasks()
INPUT = "input {{ name: '{0}' data_type: {1} dims: {2} }}\n"
OUTPUT = "output {{ name: '{0}' data_type: {1} dims: {2} }}\n"
FIRST, SECOND = INPUT.format("INPUT0", "TYPE_INT32", "16"), INPUT.format("INPUT1", "TYPE_INT32", "16")


def add_sub_folder(root: Path, config: str, batch: int | str = "b") -> Path:
    add_sub(root / "m" / "1" / "model.onnx", batch)
    (root / "m" / "config.pbtxt").write_text(config)
    return root / "m"


def version_of(folder: Path) -> ModelVersion:
    (version,) = read_versions(folder, TASKS)
    return version


@pytest.mark.parametrize("name", ["add-sub", "scores", "strings", "half"])
def test_a_repository_of_triton_passes_as_it_is(tmp_path: Path, name: str) -> None:
    assert check_model(make_repository(tmp_path) / name) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            "max_batch_size: 8\n" + FIRST + INPUT.format("INPUT1", "TYPE_FP32", "16"),
            "input 'INPUT1' is declared FP32, and the graph's is INT32",
        ),
        (
            "max_batch_size: 8\n" + FIRST + INPUT.format("INPUT1", "TYPE_INT32", "[ 15 ]"),
            "input 'INPUT1' is declared [-1, 15], the batch's dimension included, and the graph's shape is [-1, 16]",
        ),
        (
            "max_batch_size: 0\n" + FIRST + SECOND,
            "input 'INPUT0' is declared [16], and the graph's shape is [-1, 16]",
        ),
        (
            "max_batch_size: 8\n" + FIRST + SECOND + INPUT.format("INPUT2", "TYPE_INT32", "16"),
            "input 'INPUT2' is declared, and the graph has no such input: it has 'INPUT0' (INT32 [-1, 16]), 'INPUT1'",
        ),
        (
            "max_batch_size: 8\n" + FIRST,
            "the graph's input 'INPUT1' (INT32 [-1, 16]) is not declared, and it cannot run without it",
        ),
        (
            "max_batch_size: 8\n" + FIRST + SECOND.replace("dims", "optional: true dims"),
            "input 'INPUT1' is declared optional, and the graph has no default for it",
        ),
        (
            "max_batch_size: 8\n" + OUTPUT.format("SUM", "TYPE_INT32", "16"),
            "output 'SUM' is declared, and the graph has no such output: it has 'OUTPUT0' (INT32 [-1, 16])",
        ),
        (
            "max_batch_size: 8\n" + OUTPUT.format("OUTPUT0", "TYPE_INT64", "16"),
            "output 'OUTPUT0' is declared INT64, and the graph's is INT32",
        ),
    ],
)
def test_what_is_declared_otherwise_than_the_graph_is_told_by_name_type_and_shape(
    tmp_path: Path, config: str, said: str
) -> None:
    faults = check_model(add_sub_folder(tmp_path, config))
    assert any(fault.startswith(f"m/1: {said}") for fault in faults), faults


def test_a_batch_size_on_a_graph_without_a_free_first_dimension_is_a_fault(tmp_path: Path) -> None:
    faults = check_model(add_sub_folder(tmp_path, "max_batch_size: 8", batch=1))
    assert "input 'INPUT0': with max_batch_size the graph's first dimension must be free" in faults[0]
    assert "[1, 16]" in faults[0]


def test_a_size_may_be_narrowed_and_an_output_left_out(tmp_path: Path) -> None:
    config = "max_batch_size: 0\n" + "".join(
        INPUT.format(name, "TYPE_INT32", "[ 2, 16 ]") for name in ("INPUT0", "INPUT1")
    )
    folder = add_sub_folder(tmp_path, config + OUTPUT.format("OUTPUT1", "TYPE_INT32", "[ -1, 16 ]"))
    assert check_model(folder) == []
    assert [tensor.name for tensor in version_of(folder).signature.outputs] == ["OUTPUT1"]


def test_an_input_with_a_default_may_be_declared_optional(tmp_path: Path) -> None:
    kind = (TensorProto.FLOAT, ["n"])
    save_graph(
        tmp_path / "m" / "1" / "model.onnx", [("Mul", ["x", "scale"], ["y"])],
        {"x": kind, "scale": (TensorProto.FLOAT, [1])}, {"y": kind},
        [numpy_helper.from_array(np.float32([2]), "scale")],
    )  # fmt: skip
    declared = INPUT.format("x", "TYPE_FP32", "-1") + INPUT.format("scale", "TYPE_FP32", "1 optional: true")
    (tmp_path / "m" / "config.pbtxt").write_text("max_batch_size: 0\n" + declared)
    assert check_model(tmp_path / "m") == []


def test_a_label_file_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = make_repository(tmp_path) / "scores"
    (folder / "classes.txt").unlink()
    assert any("names the label file 'classes.txt', which is not in" in fault for fault in check_model(folder))


def test_what_was_found_is_shown(tmp_path: Path) -> None:
    (found,) = inspect(make_repository(tmp_path) / "scores").versions
    assert found.inputs == ["pixels FP32 [-1, 2, 2], reshaped to [-1, 4]"]
    assert found.outputs == ["scores FP32 [-1, 4], 4 class names"]
    assert found.max_batch_size == 4


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("task: tensors\nlane: fast\n", "line 2, lane: "),
        (
            "task: tensors\n\nonnx:\n  graph_optimisation: all\n",
            "line 4, onnx.graph_optimisation: there is no such field",
        ),
        (
            "task: tensors\ninputs:\n- {name: x, datatype: FP32, shape: []}\n- name: y\n  datatype: FP33\n",
            "line 5, inputs.1.datatype: ",
        ),
        ("task: segmentation\npipeline:\n  axes: RAS\n  gird: {}\n", "line 4, pipeline.gird: there is no such field"),
        (
            "task: tensors\nbatching: {dynamic: true}\n",
            "model.yaml: requests cannot be joined without a max_batch_size",
        ),
    ],
)
def test_a_fault_of_model_yaml_is_told_with_its_line(tmp_path: Path, manifest: str, said: str) -> None:
    add_sub(tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "model.yaml").write_text(manifest)
    faults = check_model(tmp_path / "m")
    assert any(said in fault for fault in faults), faults


def sample(source: str, name: str = "INPUT0", dims: int = 16) -> str:
    return f"inputs {{ key: '{name}' value {{ data_type: TYPE_INT32 dims: {dims} {source} }} }}\n"


def warmed(folder: Path) -> list[dict[str, Array]]:
    seen: list[dict[str, Array]] = []
    assert warm(version_of(folder), {"model": lambda feeds: seen.append(dict(feeds))}) == len(seen)
    return seen


def test_warm_up_feeds_zeros_random_numbers_and_files(tmp_path: Path) -> None:
    config = "max_batch_size: 8 model_warmup { name: 'w' batch_size: 2 count: 3\n"
    config += sample("random_data: true") + sample("input_data_file: 'ones'", "INPUT1") + "}\n"
    config += "model_warmup { name: 'z'\n" + sample("zero_data: true") + sample("zero_data: true", "INPUT1") + "}"
    folder = add_sub_folder(tmp_path, config)
    (folder / "warmup").mkdir()
    (folder / "warmup" / "ones").write_bytes(np.ones((2, 16), np.int32).tobytes())
    runs = warmed(folder)
    assert [feeds["INPUT0"].shape for feeds in runs] == [(2, 16)] * 3 + [(1, 16)]
    np.testing.assert_array_equal(runs[0]["INPUT1"], np.ones((2, 16)))
    np.testing.assert_array_equal(runs[0]["INPUT0"], runs[1]["INPUT0"])
    assert not runs[3]["INPUT0"].any()
    (found,) = inspect(folder).versions
    assert (found.warmup_runs, found.faults) == (4, [])


def test_warm_up_without_inputs_is_made_from_the_graph(tmp_path: Path) -> None:
    add_sub(tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "model.yaml").write_text("task: tensors\nwarmup: [{}]\n")
    (feeds,) = warmed(tmp_path / "m")
    assert {name: feed.shape for name, feed in feeds.items()} == {"INPUT0": (1, 16), "INPUT1": (1, 16)}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (sample("zero_data: true"), "the warm-up 'w' cannot be fed: the input 'INPUT1' is missing"),
        (sample("zero_data: true", dims=3), "'INPUT0' is INT32 [1, 3], and the model wants INT32 [-1, 16]"),
        (sample("zero_data: true", "INPUT5"), "no input 'INPUT5'"),
        (sample("input_data_file: 'none'"), "there is no file warmup/none"),
        (sample("input_data_file: 'short'"), "the file for 'INPUT0' holds 3 bytes, and INT32 [1, 16] takes 64"),
    ],
)
def test_a_warm_up_that_cannot_be_fed_says_why(tmp_path: Path, inputs: str, said: str) -> None:
    folder = add_sub_folder(tmp_path, "max_batch_size: 8 model_warmup { name: 'w' " + inputs + "}")
    (folder / "warmup").mkdir()
    (folder / "warmup" / "short").write_bytes(b"abc")
    assert any(said in fault for fault in check_model(folder)), check_model(folder)


def test_a_warm_up_run_that_fails_is_told(tmp_path: Path) -> None:
    folder = add_sub_folder(
        tmp_path,
        "max_batch_size: 8 model_warmup { name: 'w' "
        + sample("zero_data: true")
        + sample("zero_data: true", "INPUT1")
        + "}",
    )

    def run(feeds: object) -> None:
        raise ModelError("the model failed", code="inference-failed")

    with pytest.raises(ModelError, match="the warm-up 'w' failed: the model failed") as caught:
        warm(version_of(folder), {"model": run})
    assert caught.value.code == "warmup-failed"


def example_folder(root: Path, example: str, **arrays: Any) -> Path:
    add_sub(root / "m" / "1" / "model.onnx")
    (root / "m" / "model.yaml").write_text(f"task: tensors\ndevice: any\nexample: {example}\n")
    (root / "m" / "example").mkdir()
    content = pack([blob_of(name, array) for name, array in arrays.items()])
    (root / "m" / "example" / "request").write_bytes(content)
    return root / "m"


def test_the_example_is_answered(tmp_path: Path) -> None:
    row = np.zeros((1, 16), np.int32)
    folder = example_folder(
        tmp_path, "{inputs: [request], params: {outputs: [{name: OUTPUT0}]}}", INPUT0=row, INPUT1=row
    )
    findings = inspect(folder)
    assert findings.faults == []
    assert findings.versions[0].example_answered
    version = version_of(folder)
    assert version.manifest.device is DevicePolicy.ANY
    assert version.card().example == {"params": {"outputs": [{"name": "OUTPUT0"}]}, "inputs": ["request"]}


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ("{inputs: [other]}", "the example names other, and example/ does not hold it"),
        ("{inputs: [request]}", "the example was not answered: the input 'INPUT1' is missing"),
        ("{inputs: [request], params: {speed: 3}}", "the example's params: speed"),
        ("{inputs: ['../request']}", "line 3, example.inputs.0"),
    ],
)
def test_an_example_that_is_not_answered_says_why(tmp_path: Path, example: str, said: str) -> None:
    folder = example_folder(tmp_path, example, INPUT0=np.zeros((1, 16), np.int32))
    assert any(said in fault for fault in check_model(folder)), check_model(folder)
