"""What is refused of a model before anything of it is run, and what is made of what came."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx import helper

from fleet.errors import FleetError, ModelError, UnsupportedMedia
from tests.support.graphs import graph, pointing_to, scale_graph, with_external_data
from worker.house.layout import Wish, lay_out
from worker.house.scan import scan_folder, scan_graph


def written(folder: Path, content: bytes, name: str = "model.onnx") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_plain_graph_and_one_with_external_data_pass(tmp_path: Path) -> None:
    written(tmp_path, scale_graph(), "plain/model.onnx")
    with_external_data(tmp_path)
    facts = scan_folder(tmp_path, 1 << 20)
    assert facts["files"] == 3
    assert facts["graphs"]["model.onnx"]["nodes"] == 1


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\b", ""])
def test_external_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelError) as caught:
        scan_graph(written(tmp_path, pointing_to(location)))
    assert caught.value.code == "external-data-invalid"


@pytest.mark.parametrize("told", [{"offset": -1}, {"length": -1}, {"offset": 1 << 40}, {"length": 17}])
def test_external_data_beyond_its_file_is_refused(tmp_path: Path, told: dict[str, int]) -> None:
    written(tmp_path, bytes(16), "data")
    written(tmp_path, pointing_to("data", **told))
    with pytest.raises(ModelError) as caught:
        scan_folder(tmp_path, 1 << 20)
    assert caught.value.code == "external-data-invalid"


def test_external_data_that_is_a_link_is_refused(tmp_path: Path) -> None:
    written(tmp_path, bytes(16), "outside/data")
    written(tmp_path, pointing_to("data"), "model/model.onnx")
    (tmp_path / "model" / "data").symlink_to(tmp_path / "outside" / "data")
    with pytest.raises(FleetError):
        scan_folder(tmp_path / "model", 1 << 20)


@pytest.mark.parametrize(
    ("kind", "domain"),
    [
        ("Mine", "my.library"),
        ("StringRegexReplace", "ai.onnx.contrib"),
        ("BertTokenizer", "com.microsoft.extensions"),
        ("Adam", "ai.onnx.preview.training"),
        ("PythonOp", "com.microsoft"),
        ("EPContext", "com.microsoft"),
    ],
)
def test_an_operator_that_needs_a_library_is_refused_and_named(tmp_path: Path, kind: str, domain: str) -> None:
    node = helper.make_node(kind, ["x"], ["y"], domain=domain)
    path = written(tmp_path, graph([node], [4], opsets=[helper.make_opsetid(domain, 1)]))
    with pytest.raises(ModelError, match=kind) as caught:
        scan_graph(path)
    assert caught.value.code == "custom-operator"


def test_an_operator_is_found_in_branches_and_in_functions(tmp_path: Path) -> None:
    hidden = helper.make_node("Mine", ["x"], ["y"], domain="my.library")
    branch = helper.make_graph([hidden], "branch", [], [helper.make_tensor_value_info("y", 1, [4])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(ModelError, match="Mine"):
        scan_graph(written(tmp_path, graph([node], [4])))
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Twice", ["x"], ["y"], [hidden], opsets)
    call = helper.make_node("Twice", ["x"], ["y"], domain="own")
    with pytest.raises(ModelError, match="Mine"):
        scan_graph(written(tmp_path, graph([call], [4], opsets=[helper.make_opsetid("own", 1)], functions=[function])))


def test_functions_of_the_model_itself_and_the_vendors_operators_pass(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], opsets)
    nodes = [
        helper.make_node("Twice", ["x"], ["t"], domain="own"),
        helper.make_node("Gelu", ["t"], ["y"], domain="com.microsoft"),
    ]
    extra = [helper.make_opsetid("own", 1), helper.make_opsetid("com.microsoft", 1)]
    assert scan_graph(written(tmp_path, graph(nodes, [4], opsets=extra, functions=[function]))).nodes == 3


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x08", pickle.dumps({"a": 1})])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        scan_graph(written(tmp_path, content))
    assert caught.value.code == "graph-unreadable"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.py", b"x = 1"),
        ("custom.so", b"text"),
        ("weights.pt", b"text"),
        ("weights.bin", b"\0" * 16),
        ("weights.dat", pickle.dumps(np.float32(1.0))),
        ("weights.dat", pickle.dumps({"a": 1}, protocol=2)),
        ("labels.txt", b"\x7fELF\x02\x01"),
        ("labels.txt", b"PK\x03\x04"),
        ("setup.txt", b"#!/bin/sh\n"),
    ],
)
def test_a_file_that_runs_or_unpickles_is_refused_by_name_and_by_content(
    tmp_path: Path, name: str, content: bytes
) -> None:
    written(tmp_path, scale_graph())
    written(tmp_path, content, name)
    with pytest.raises(UnsupportedMedia, match=name) as caught:
        scan_folder(tmp_path, 1 << 20)
    assert caught.value.code == "refused-file"


def test_a_bin_file_that_the_graph_names_is_its_data(tmp_path: Path) -> None:
    with_external_data(tmp_path, data="weights.bin")
    assert scan_folder(tmp_path, 1 << 20)["files"] == 2


def laid_out(tmp_path: Path, files: dict[str, bytes], wish: Wish | None = None) -> dict[str, bytes]:
    came, folder = tmp_path / "came", tmp_path / "model"
    came.mkdir(exist_ok=True)
    for name, content in files.items():
        written(came, content, name)
    lay_out(came, folder, wish or Wish(3, "from a test"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


GRAPH = scale_graph()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"net.onnx": GRAPH}, {"3/model.onnx"}),
        ({"net/net.onnx": GRAPH, "net/labels.txt": b""}, {"3/model.onnx", "labels.txt"}),
        ({"1/model.onnx": GRAPH, "config.pbtxt": b""}, {"3/model.onnx", "config.pbtxt"}),
        ({"m/model.yaml": b"task: echo", "m/1/model.onnx": GRAPH}, {"3/model.onnx", "model.yaml"}),
        ({"onnx/model.onnx": GRAPH, "tokenizer.json": b"{}"}, {"3/model.onnx", "tokenizer.json"}),
        ({"model.onnx": GRAPH, "decoder.onnx": GRAPH}, {"3/model.onnx", "decoder.onnx"}),
    ],
    ids=["flat", "wrapped", "triton", "whole", "hub", "beside"],
)
def test_each_layout_becomes_a_models_folder(tmp_path: Path, files: dict[str, bytes], expected: set[str]) -> None:
    assert laid_out(tmp_path, files).keys() == expected


def test_where_no_task_is_named_the_graph_says_what_nobody_does(tmp_path: Path) -> None:
    found = laid_out(tmp_path, {"model.onnx": GRAPH}, Wish(3, "from a test", labels={0: "cat"}))
    assert found.keys() == {"3/model.onnx", "model.yaml", "config.pbtxt"}
    said = yaml.safe_load(found["model.yaml"])
    assert (said["task"], said["lane"], said["labels"]) == ("tensors", "interactive", {0: "cat"})


def test_external_data_stays_where_the_graph_names_it(tmp_path: Path) -> None:
    with_external_data(tmp_path, data="net.data")
    files = {"onnx/net.onnx": (tmp_path / "model.onnx").read_bytes(), "onnx/net.data": bytes(16384)}
    assert laid_out(tmp_path, files).keys() == {"3/model.onnx", "3/net.data"}


def test_of_several_versions_the_asked_one_is_taken_else_the_highest(tmp_path: Path) -> None:
    files = {f"{number}/model.onnx": scale_graph(number) for number in (1, 3, 7)}
    assert laid_out(tmp_path, files)["3/model.onnx"] == scale_graph(3)
    (tmp_path / "second").mkdir()
    assert laid_out(tmp_path / "second", files, Wish(9, ""))["9/model.onnx"] == scale_graph(7)


def test_several_graphs_without_a_name_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a\.onnx, b\.onnx") as caught:
        laid_out(tmp_path, {"a.onnx": GRAPH, "b.onnx": GRAPH})
    assert caught.value.code == "graph-ambiguous"


def test_several_graphs_that_were_asked_for_keep_their_names(tmp_path: Path) -> None:
    files = {"onnx/encoder.onnx": GRAPH, "onnx/decoder.onnx": scale_graph(3), "tokenizer.json": b"{}"}
    asked = ["onnx/encoder.onnx", "onnx/decoder.onnx"]
    found = laid_out(tmp_path, files, Wish(3, "", graphs=asked, manifest={"task": "visual-qa"}))
    assert found.keys() == {"3/encoder.onnx", "3/decoder.onnx", "tokenizer.json", "model.yaml"}


@pytest.mark.parametrize("manifest", [None, {"task": "image-classification"}])
def test_several_graphs_are_no_version_of_a_task_that_takes_one(
    tmp_path: Path, manifest: dict[str, str] | None
) -> None:
    wish = Wish(3, "", graphs=["model.onnx", "decoder.onnx"], manifest=manifest)
    with pytest.raises(ModelError, match="as `task` in the manifest") as caught:
        laid_out(tmp_path, {"model.onnx": GRAPH, "decoder.onnx": GRAPH}, wish)
    assert caught.value.code == "graph-ambiguous"


def test_the_requests_manifest_stands_above_the_one_that_came(tmp_path: Path) -> None:
    wish = Wish(3, "from a test", manifest={"description": "ours"}, labels={1: "brain"})
    found = laid_out(tmp_path, {"model.onnx": GRAPH, "model.yaml": b"task: echo\ndescription: theirs\n"}, wish)
    said = yaml.safe_load(found["model.yaml"])
    assert said == {
        "task": "echo",
        "description": "ours",
        "labels": {1: "brain"},
        "source": {"note": "from a test"},
    }
