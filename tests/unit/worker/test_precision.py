"""Versions in shorter numbers: compared with the first on given inputs, and written only where the two agree."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from fleet.errors import Conflict, ModelError, NotFound, ValidationFailed
from fleet.settings import CPU_PROVIDER
from tests.support.small_graphs import convolution, floats, model_folder, perceptron, save
from worker.contract import Tensor
from worker.engine.model_folder import check_model
from worker.engine.session import Session, SessionSetup
from worker.precision.comparison import OutputComparison
from worker.precision.convert import Precision, convert, overflows
from worker.precision.feeds import random_samples, read_feeds
from worker.precision.quantize import quantize
from worker.stop import StopToken

ROWS = (Tensor("x", np.dtype(np.float32), (-1, 64)),)


def real_rows(folder: Path, count: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(5)
    for number in range(count):
        np.savez(folder / f"{number}.npz", x=random.normal(size=(8, 64)).astype(np.float32))
    return folder


def kinds(graph: Path) -> set[str]:
    return {node.op_type for node in onnx.load(graph).graph.node}


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        (Precision.INT8_DYNAMIC, "DynamicQuantizeLinear"),
        (Precision.INT8_STATIC, "QuantizeLinear"),
        (Precision.FP16, "Cast"),
    ],
)
def test_version_appears_next_to_the_others_with_its_report(tmp_path: Path, to: Precision, kind: str) -> None:
    folder, rows = model_folder(tmp_path), real_rows(tmp_path / "rows")
    report = quantize(folder, to, inputs=rows, calibration=rows)
    assert report.agrees
    assert 0 < report.disagreement < report.allowed
    assert kind in kinds(folder / "2" / "model.onnx")
    assert sorted(entry.name for entry in folder.iterdir()) == ["1", "2", "model.yaml"]
    written = json.loads((folder / "2" / "report.json").read_text("utf-8"))
    assert (written["before"]["version"], written["after"]["version"], written["samples"]) == (1, 2, 4)
    (output,) = written["outputs"]
    assert 0 < output["mean_difference"] < output["max_difference"]
    assert output["cosine"] > 0.99
    assert output["rows"] == 32
    assert written["after"]["size_bytes"] < written["before"]["size_bytes"]
    assert min(written["before"]["run_s"], written["after"]["run_s"]) > 0
    assert written["inputs"] == "rows"
    assert check_model(folder) == []


def test_figures_are_those_of_the_two_graphs(tmp_path: Path) -> None:
    folder, rows = model_folder(tmp_path), real_rows(tmp_path / "rows", 1)
    (output,) = quantize(folder, Precision.INT8_DYNAMIC, inputs=rows).outputs
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
    with np.load(rows / "0.npz") as arrays:
        feeds = {"x": arrays["x"]}
    before, after = (
        Session(folder / version / "model.onnx", setup).run(feeds, StopToken())["scores"] for version in "12"
    )
    assert output.max_difference == pytest.approx(np.abs(before - after).max(), rel=1e-3)
    assert output.disagreement == pytest.approx(np.linalg.norm(before - after) / np.linalg.norm(before), rel=1e-3)
    assert output.same_best == np.mean(before.argmax(1) == after.argmax(1))


def test_version_that_disagrees_more_than_allowed_is_not_written(tmp_path: Path) -> None:
    folder, rows = model_folder(tmp_path), real_rows(tmp_path / "rows")
    report = quantize(folder, Precision.INT8_DYNAMIC, inputs=rows, max_disagreement=1e-6)
    assert not report.agrees
    assert report.disagreement > 1e-6
    assert sorted(entry.name for entry in folder.iterdir()) == ["1", "model.yaml"]


def test_random_inputs_are_admitted_to_in_the_report(tmp_path: Path) -> None:
    report = quantize(model_folder(tmp_path), Precision.FP16)
    assert report.inputs == "random"
    assert any("random inputs, which say little" in note for note in report.notes)


def test_weights_beside_the_graph_are_taken_into_the_new_one(tmp_path: Path) -> None:
    folder, rows = model_folder(tmp_path, external=True), real_rows(tmp_path / "rows")
    assert (folder / "1" / "weights.bin").is_file()
    quantize(folder, Precision.INT8_DYNAMIC, inputs=rows)
    assert sorted(file.name for file in (folder / "2").iterdir()) == ["model.onnx", "report.json"]
    assert check_model(folder) == []


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, external=True)
    (folder / "1" / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights\.bin") as caught:
        quantize(folder, Precision.FP16)
    assert caught.value.code == "model-unloadable"


def test_graph_that_an_author_vouches_for_vouches_for_what_was_made_from_it(tmp_path: Path) -> None:
    from fleet.objects import file_digest

    folder, rows = model_folder(tmp_path), real_rows(tmp_path / "rows")
    digest = file_digest(folder / "1" / "model.onnx")
    (folder / "model.yaml").write_text(f"task: tensors\nsource: {{sha256: {digest}}}\n", "utf-8")
    quantize(folder, Precision.INT8_DYNAMIC, inputs=rows)
    assert check_model(folder) == []
    perceptron(folder / "2" / "model.onnx", opset=18)
    assert any("SHA-256" in fault for fault in check_model(folder))


def test_convolutions_are_left_to_calibrated_ranges(tmp_path: Path) -> None:
    graph = convolution(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"has only 1 Conv.*int8-static quantizes Conv") as caught:
        convert(graph, tmp_path / "out.onnx", Precision.INT8_DYNAMIC)
    assert caught.value.code == "quantization-unsupported"
    pictures = [{"image": np.random.default_rng(n).random((1, 1, 16, 16), np.float32)} for n in range(3)]
    convert(graph, tmp_path / "out.onnx", Precision.INT8_STATIC, pictures)
    assert "QuantizeLinear" in kinds(tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("opset", "to", "said"),
    [(9, Precision.INT8_DYNAMIC, "needs opset 11 or newer, and this is 9"), (9, Precision.INT8_STATIC, "export")],
)
def test_opset_that_is_too_old_is_told(tmp_path: Path, opset: int, to: Precision, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        convert(perceptron(tmp_path / "model.onnx", opset=opset), tmp_path / "out.onnx", to)


def test_graph_without_weights_has_nothing_to_make_shorter(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = save(tmp_path / "model.onnx", [node], [floats("x", 4)], [floats("y", 4)])
    with pytest.raises(ModelError, match="no weights in float32"):
        convert(graph, tmp_path / "out.onnx", Precision.FP16)
    with pytest.raises(ModelError, match="has only 1 Identity"):
        convert(graph, tmp_path / "out.onnx", Precision.INT8_STATIC)


def test_version_that_is_quantized_already_is_told_from_one_that_is_not(tmp_path: Path) -> None:
    folder, rows = model_folder(tmp_path), real_rows(tmp_path / "rows")
    quantize(folder, Precision.INT8_DYNAMIC, inputs=rows)
    with pytest.raises(ModelError, match="it is quantized already; name another --version"):
        quantize(folder, Precision.INT8_DYNAMIC, inputs=rows)
    assert quantize(folder, Precision.FP16, version=1, inputs=rows, out=7).after.version == 7


def test_graph_keeps_the_types_of_its_inputs_and_outputs_in_float16(tmp_path: Path) -> None:
    convert(perceptron(tmp_path / "model.onnx"), tmp_path / "out.onnx", Precision.FP16)
    session = Session(tmp_path / "out.onnx", SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False))
    assert [tensor.dtype for tensor in (*session.inputs, *session.outputs)] == [np.dtype(np.float32)] * 2


def test_version_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "5").mkdir()
    with pytest.raises(Conflict, match="has a version 5 already"):
        quantize(folder, Precision.FP16, out=5)
    assert quantize(folder, Precision.FP16).after.version == 6, "an empty folder is somebody's version too"


def test_version_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no version 3; it has 1"):
        quantize(model_folder(tmp_path), Precision.FP16, version=3)


def test_calibration_is_asked_for_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="--calibration") as caught:
        quantize(model_folder(tmp_path), Precision.INT8_STATIC)
    assert caught.value.code == "calibration-needed"


def test_array_with_one_dimension_more_holds_several_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", x=np.arange(3 * 2 * 64, dtype=np.float64).reshape(3, 2, 64))
    samples = list(read_feeds(tmp_path / "all.npz", ROWS))
    assert [sample["x"].shape for sample in samples] == [(2, 64)] * 3
    assert samples[1]["x"].dtype == np.float32
    assert samples[1]["x"][0, 0] == 128


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.zeros((1, 64))}, "has no array 'x'; it has y"),
        ({"x": np.zeros((1, 63))}, r"has the shape \(1, 63\), and the model takes \(-1, 64\)"),
        ({"x": np.zeros(64)}, "has the shape"),
        ({"x": np.zeros((1, 64), complex)}, "is complex128, and the model takes float32"),
        ({"x": np.zeros((0, 1, 64))}, "nothing to compare"),
    ],
)
def test_inputs_that_do_not_fit_are_told_with_their_file(
    tmp_path: Path,
    arrays: dict[str, np.ndarray],
    said: str,  # type: ignore[type-arg]
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValidationFailed, match=said) as caught:
        quantize(model_folder(tmp_path), Precision.FP16, inputs=tmp_path / "in.npz")
    assert caught.value.code == "invalid-feeds"


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValidationFailed, match="no file of NumPy arrays"):
        list(read_feeds(tmp_path / "in.npy", ROWS))


def test_folder_without_arrays_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match=r"holds no \.npz or \.npy files"):
        list(read_feeds(tmp_path, ROWS))


def test_random_samples_are_the_same_every_time() -> None:
    first, again = random_samples(ROWS), random_samples(ROWS)
    np.testing.assert_array_equal([feeds["x"] for feeds in first], [feeds["x"] for feeds in again])
    assert not np.array_equal(first[0]["x"], first[1]["x"])


def test_output_that_is_no_number_any_more_is_as_far_away_as_can_be() -> None:
    compared = OutputComparison("y")
    compared.add(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    assert compared.report().disagreement == math.inf
    assert compared.report().max_difference == math.inf


def test_labels_are_compared_by_the_share_that_differs() -> None:
    compared = OutputComparison("labels")
    compared.add(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]))
    assert compared.report().disagreement == 0.25


@pytest.mark.parametrize(
    ("flags", "answer"), [("fma avx2", True), ("avx2 avx512_vnni", False), ("avx2 avx_vnni", False)]
)
def test_weights_have_seven_bits_where_the_processor_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, answer: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags} sse\n")
    assert overflows(tmp_path / "cpuinfo") is answer
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not overflows(tmp_path / "cpuinfo")
