"""`fleet models quantize` on a folder: what it prints, what it leaves, and how it ends."""

from pathlib import Path

import numpy as np

from tests.support.small_graphs import model_folder
from tests.unit.cli.conftest import Fleet


def rows(folder: Path) -> Path:
    path = folder / "rows.npz"
    np.savez(path, x=np.random.default_rng(9).normal(size=(3, 8, 64)).astype(np.float32))
    return path


def test_new_version_is_written_and_its_figures_are_shown(fleet: Fleet, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    said = fleet("models", "quantize", folder, "--inputs", rows(tmp_path))
    assert said.code == 0, said.err
    assert "version 1 to int8-dynamic, compared on 3 inputs" in said.out
    assert "scores" in said.out
    assert f"written: {folder / '2'}" in said.out.replace("\n", "")
    assert (folder / "2" / "report.json").is_file()


def test_json_is_the_report(fleet: Fleet, tmp_path: Path) -> None:
    said = fleet("models", "quantize", model_folder(tmp_path), "--to", "fp16", "--inputs", rows(tmp_path), "--json")
    assert (said.code, said.json["agrees"], said.json["after"]["version"]) == (0, True, 2)


def test_too_large_a_disagreement_is_1_and_writes_nothing(fleet: Fleet, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    said = fleet("models", "quantize", folder, "--inputs", rows(tmp_path), "--max-disagreement", "0.0001")
    assert said.code == 1
    assert "nothing was written [quantization-disagrees]" in said.err
    assert not (folder / "2").exists()


def test_model_that_is_nowhere_here_is_3_and_an_unknown_precision_2(fleet: Fleet, tmp_path: Path) -> None:
    assert fleet("models", "quantize", "no-such-model").code == 3
    said = fleet("models", "quantize", model_folder(tmp_path), "--to", "int4")
    assert said.code == 2
    assert "none of int8-dynamic, int8-static, fp16" in said.err
