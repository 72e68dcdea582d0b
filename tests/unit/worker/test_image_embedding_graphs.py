"""Which graphs can embed pictures, and what is said of those that leave open how."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.classifiers import PREPROCESS, colours
from tests.support.classifiers import make_model as make_classifier
from tests.support.image_embedders import loaded, reference, unpacked
from worker.contract import Model
from worker.embedding.embedder import ImageEmbedder
from worker.embedding.text_tower import TextTower
from worker.embedding.zero_shot import Similarity
from worker.tasks.image_embedding import TASK


def faults(folder: Path) -> list[str]:
    return list(TASK.check(loaded(folder)))


def told(model: Model) -> str:
    assert list(TASK.check(model)) == []
    return "\n".join(TASK.told(model))


@pytest.mark.parametrize(
    ("name", "reading", "labels"),
    [
        ("clip-towers", "image_embeds, as it is", "softmax(33.12 · cosine +0) (said by model.yaml)"),
        ("clip-joint", "image_embeds, as it is", "softmax(33.12 · cosine +0) (said by the graph's own logits)"),
        ("siglip-towers", "pooler_output, as it is", "sigmoid(12.18 · cosine -2) (said by model.yaml)"),
        ("dinov2", "pooler_output, as it is", None),
        ("vit-cls", "last_hidden_state, its first token", None),
        ("timm-vit", "features, as it is", None),
    ],
)
def test_what_was_found_is_told(tmp_path: Path, name: str, reading: str, labels: str | None) -> None:
    said = told(loaded(unpacked(name, tmp_path)))
    assert f": {reading}\n" in f"{said}\n"
    assert (f"labels are scored by {labels}" in said) if labels else ("labels" not in said)


def test_the_scale_and_the_bias_of_a_joint_graph_are_in_its_logits(tmp_path: Path) -> None:
    similarity = loaded(unpacked("clip-joint", tmp_path)).derived(Similarity)
    expected = reference("clip-towers")["pipeline"]["zero_shot"]["scale"]
    assert (similarity.scale, similarity.bias) == (pytest.approx(expected, rel=1e-4), 0)


def test_two_towers_without_a_scale_embed_and_do_not_judge_labels(tmp_path: Path) -> None:
    said = told(loaded(unpacked("clip-towers", tmp_path, pipeline={"zero_shot": {}})))
    assert "labels cannot be asked for: the scale of cosines is not known" in said


def test_a_scale_without_a_bias_is_not_enough_for_siglip(tmp_path: Path) -> None:
    said = told(loaded(unpacked("siglip-towers", tmp_path, pipeline={"zero_shot": {"scale": 12}})))
    assert "labels cannot be asked for: scores by sigmoid need the bias" in said


def test_readings_that_differ_are_all_named(tmp_path: Path) -> None:
    (fault,) = faults(unpacked("vit-cls", tmp_path, pipeline={"output": None, "pooling": None}))
    assert fault.startswith(
        "the vector of a picture may be pooler_output, as it is or last_hidden_state, its first token or "
        "last_hidden_state, the mean of its tokens, and they differ"
    )
    both = {"output": "last_hidden_state", "pooling": None}
    (fault,) = faults(unpacked("vit-cls", tmp_path / "tokens", pipeline=both))
    assert "may be last_hidden_state, its first token or last_hidden_state, the mean of its tokens" in fault


def test_readings_that_are_the_same_numbers_leave_nothing_open(tmp_path: Path) -> None:
    """Nothing says which family it is: that its pooled output is its first token is seen."""
    folder = unpacked("dinov2", tmp_path, without=("config.json",))
    assert "pooler_output, as it is" in told(loaded(folder))


def test_an_output_of_features_is_taken_and_logits_are_not(tmp_path: Path) -> None:
    manifest: dict[str, Any] = {"task": "image-embedding", "pipeline": {"preprocess": dict(PREPROCESS)}, "labels": {}}
    features = make_classifier(tmp_path / "a", colours(outputs=("features",)), **manifest)
    assert loaded(features).derived(ImageEmbedder).width == 3
    (fault,) = faults(make_classifier(tmp_path / "b", colours(), **manifest))
    assert "logits are scores of classes" in fault
    (fault,) = faults(make_classifier(tmp_path / "c", colours(outputs=("one", "two")), **manifest))
    assert "which output has the vector of a picture is not known: the graph has one, two" in fault


def test_two_graphs_for_pictures_are_refused_by_name(tmp_path: Path) -> None:
    folder = unpacked("clip-towers", tmp_path)
    shutil.copy(folder / "1" / "vision.onnx", folder / "1" / "other.onnx")
    (fault,) = faults(folder)
    assert "other and vision both take pictures" in fault


def test_a_text_tower_alone_is_of_another_task(tmp_path: Path) -> None:
    folder = unpacked("clip-towers", tmp_path)
    (folder / "1" / "vision.onnx").unlink()
    (fault,) = faults(folder)
    assert "a text tower alone is a model of the task text-embedding" in fault


def test_a_vision_tower_alone_takes_no_texts(tmp_path: Path) -> None:
    folder = unpacked("clip-towers", tmp_path, without=("tokenizer.json",))
    (folder / "1" / "text.onnx").unlink()
    assert loaded(folder).derived(ImageEmbedder).towers.text is None
    assert faults(folder) == []


def test_towers_of_different_spaces_are_refused(tmp_path: Path) -> None:
    folder, other = unpacked("clip-towers", tmp_path), unpacked("siglip-towers", tmp_path)
    shutil.copy(other / "1" / "text.onnx", folder / "1" / "text.onnx")
    (fault,) = faults(folder)
    assert "which output of the text tower lies in the pictures' space is not known" in fault
    pipeline = {"text": {"output": "pooler_output", "pad_to": 0}}
    said = folder / "model.yaml"
    said.write_text(json.dumps({"task": "image-embedding", "pipeline": pipeline}))
    (fault,) = faults(folder)
    assert "texts become 16 numbers (pooler_output) and pictures 12" in fault


def test_whether_texts_are_filled_up_must_be_known(tmp_path: Path) -> None:
    pipeline: dict[str, Any] = {"output": "pooler_output", "text": {"output": "pooler_output"}}
    folder = unpacked("siglip-towers", tmp_path, without=("config.json",), pipeline=pipeline)
    (fault,) = faults(folder)
    assert "say in model.yaml under pipeline.text.pad_to 64" in fault
    assert loaded(unpacked("siglip-towers", tmp_path / "b")).derived(TextTower).pad_to == 64


def test_a_missing_tokenizer_is_told(tmp_path: Path) -> None:
    (fault,) = faults(unpacked("clip-towers", tmp_path, without=("tokenizer.json",)))
    assert "there is no tokenizer.json" in fault


def test_a_graph_that_is_both_towers_embeds_pictures_without_a_tokenizer(tmp_path: Path) -> None:
    said = told(loaded(unpacked("clip-joint", tmp_path, without=("tokenizer.json",))))
    assert "texts and labels cannot be asked for: there is no tokenizer.json" in said


def test_siglip2_reads_small_letters_whatever_its_file_says(tmp_path: Path) -> None:
    ids = []
    for kind in ("Siglip2Tokenizer", "PreTrainedTokenizerFast"):
        folder = unpacked("siglip-towers", tmp_path / kind)
        for name, change in (
            ("tokenizer.json", {"normalizer": None}),
            ("tokenizer_config.json", {"tokenizer_class": kind}),
        ):
            said = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(said | change))
        tokenizer = loaded(folder).derived(TextTower).tokenizer
        ids.append([tokenizer.tokenize([text], "end", str).ids[0].tolist() for text in ("A CAT", "a cat")])
    assert ids[0][0] == ids[0][1] == ids[1][1] != ids[1][0]


def test_texts_are_filled_up_to_what_the_author_says(tmp_path: Path) -> None:
    tower = loaded(unpacked("siglip-towers", tmp_path, pipeline={"text": {"pad_to": 32}})).derived(TextTower)
    assert (tower.pad_to, tower.tokenizer.max_tokens) == (32, 32)


def test_token_ids_are_found_by_any_name(tmp_path: Path) -> None:
    """As exports of other trainers of CLIP call them, with the output of a name of its own."""
    folder = unpacked("siglip-towers", tmp_path, pipeline={"text": {"output": "vectors"}})
    path = folder / "1" / "text.onnx"
    graph = onnx.load(path)
    for node in graph.graph.node:
        node.input[:] = ["text" if name == "input_ids" else name for name in node.input]
        node.output[:] = ["vectors" if name == "pooler_output" else name for name in node.output]
    graph.graph.input[0].name, graph.graph.output[1].name = "text", "vectors"
    del graph.graph.output[0]
    onnx.save(graph, path)
    model = loaded(folder)
    assert list(TASK.check(model)) == []
    made = model.derived(TextTower).embed(["a cat"], None, str, model).vectors
    expected = loaded(unpacked("siglip-towers", tmp_path / "b"))
    np.testing.assert_array_equal(made, expected.derived(TextTower).embed(["a cat"], None, str, expected).vectors)
