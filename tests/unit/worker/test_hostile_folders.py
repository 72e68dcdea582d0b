"""A model's folder whose files say what no record takes: it is left out in words, and the others are served."""

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from fleet.errors import ModelError
from tests.support.triton_repository import identity, save_graph
from worker.engine.folder_shelf import FolderShelf
from worker.engine.model_folder import read_versions
from worker.engine.model_version import overridden
from worker.tasks import find_tasks

TASKS = find_tasks()
TASK = "task: tensors\n"
BOMB = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 50))


def folder(root: Path, name: str, content: str) -> Path:
    identity(root / "m" / "1" / "model.onnx")
    (root / "m" / name).write_text(content)
    return root / "m"


@pytest.mark.parametrize(
    "manifest",
    [
        'description: "a\\0b"',
        'labels: {1: "\\uD800"}',
        "deadline_s: .inf",
        "execution_timeout_s: 1.0e+300",
        "example: {params: {x: .nan}}",
        "example: {params: {x: 2020-01-01}}",
        "example: {params: {x: 2020-13-45}}",
        "example: {params: {x: !!binary /w==}}",
        "example: {params: &p {x: *p}}",
        f"example: {{params: {{x: {'[' * 5000}}}}}",
        f"batching: {{max_batch_size: {'9' * 5000}}}",
        "inputs: [{name: x, datatype: FP32, shape: [9223372036854775808]}]",
        "versions: {specific: [9223372036854775808, 1]}",
        BOMB,
    ],
    ids=lambda text: text[:32],
)
def test_a_manifest_that_the_record_does_not_take_is_invalid(tmp_path: Path, manifest: str) -> None:
    with pytest.raises(ModelError) as refused:
        read_versions(folder(tmp_path, "model.yaml", f"{TASK}{manifest}\n"), TASKS)
    assert refused.value.code == "manifest-invalid"


@pytest.mark.parametrize(
    "config",
    [
        'parameters { key: "a\\000b" value { string_value: "x" } }',
        'max_batch_size: 0 input { name: "x\\000" data_type: TYPE_FP32 dims: -1 }',
        "version_policy { specific { versions: [-1] } }",
        'parameters { key: "fleet.deadline_s" value { string_value: "inf" } }',
    ],
)
def test_a_configuration_that_the_record_does_not_take_is_invalid(tmp_path: Path, config: str) -> None:
    with pytest.raises(ModelError) as refused:
        read_versions(folder(tmp_path, "config.pbtxt", config), TASKS)
    assert refused.value.code == "config-invalid"


def test_nor_is_one_that_comes_with_a_load(tmp_path: Path) -> None:
    (version,) = read_versions(folder(tmp_path, "config.pbtxt", ""), TASKS)
    config: dict[str, Any] = {"parameters": {"a": {"string_value": "\0"}}}
    with pytest.raises(ModelError) as refused:
        overridden(version, config)
    assert refused.value.code == "config-invalid"


def test_a_graph_whose_tensor_has_a_nul_in_its_name_is_none(tmp_path: Path) -> None:
    kind = (TensorProto.FLOAT, ["n"])
    save_graph(tmp_path / "m" / "1" / "model.onnx", [("Identity", ["x\0"], ["y"])], {"x\0": kind}, {"y": kind})
    with pytest.raises(ModelError) as refused:
        read_versions(tmp_path / "m", TASKS)
    assert refused.value.code == "model-unloadable"


def test_a_number_that_no_version_can_have_is_passed_over(tmp_path: Path) -> None:
    for number in ("1", "2147483648", "9" * 200):
        identity(tmp_path / "m" / number / "model.onnx")
    assert [version.version for version in read_versions(tmp_path / "m", TASKS)] == [1]


def test_one_folder_keeps_no_worker_from_serving_the_others(tmp_path: Path) -> None:
    identity(tmp_path / "good" / "1" / "model.onnx")
    folder(tmp_path, "model.yaml", f"{TASK}example: {{params: {{x: 2020-13-45}}}}\n")
    assert list(FolderShelf(tmp_path, TASKS).versions) == [("good", 1)]
