"""What a publisher's files and graphs may say wrongly ends in an error that names it, or does not matter."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fleet.errors import ModelError
from tests.support.blips import (
    ANSWERS,
    CAPTIONS,
    WORDS,
    ask,
    changed,
    exported,
    loaded,
    table_of_words,
)
from tests.support.ort_model import RecordedProgress
from worker.contract import Array, Model
from worker.engine.checking import inspect
from worker.vqa.answerer import Answerer
from worker.vqa.settings import VqaParams

VISION = ("vision_encoder", "text_encoder")


def table(seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(WORDS, WORDS)).astype(np.float32)


def edited(folder: Path, change: Any) -> Path:
    """tokenizer.json of a table of words, changed."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    change(content["model"])
    path.write_text(json.dumps(content), "utf-8")
    return folder


@pytest.mark.parametrize(
    "said",
    [
        {"num_beams": 1000},
        {"length_penalty": 10**400},
        {"length_penalty": 1e4},
        {"length_penalty": -1e4},
        {"length_penalty": float("nan")},
        {"length_penalty": "long"},
    ],
    ids=["beams", "huge", "large", "negative", "no number", "a word"],
)
def test_a_search_that_cannot_be_done_is_refused_by_name(tmp_path: Path, said: dict[str, Any]) -> None:
    (fault,) = inspect(table_of_words(tmp_path, table(), {"num_beams": 2} | said)).faults
    assert f"generation_config.json says {next(iter(said))}" in fault


def test_no_publisher_asks_for_more_tokens_than_a_request_may(tmp_path: Path) -> None:
    folder = table_of_words(tmp_path, np.eye(WORDS, dtype=np.float32), {"max_new_tokens": 10**9})
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 10**9}), "utf-8")
    assert ask(loaded(folder))["tokens"] == 512


def test_a_text_that_the_tokenizer_cannot_read_is_the_models_fault(tmp_path: Path) -> None:
    def without_unknown(model: dict[str, Any]) -> None:
        model["unk_token"] = "[NONE]"

    model = loaded(edited(table_of_words(tmp_path, table(), {}), without_unknown))
    with pytest.raises(ModelError, match="cannot read a text") as caught:
        ask(model, prompt="zebra")
    assert caught.value.code == "tokenizer-invalid"


def test_an_answer_holds_nothing_that_no_record_holds(tmp_path: Path) -> None:
    def with_nul(model: dict[str, Any]) -> None:
        model["vocab"] = {word if number < 3 else f"\0{word}": number for word, number in model["vocab"].items()}

    said = ask(loaded(edited(table_of_words(tmp_path, table(), {}), with_nul)))
    assert said["tokens"] > 1
    assert "\0" not in said["answer"]
    assert "\ufffd" in said["answer"]


@pytest.mark.parametrize("beams", [1, 3])
def test_no_beam_hides_that_another_is_no_number(tmp_path: Path, beams: int) -> None:
    logits = np.zeros((WORDS, WORDS), np.float32)
    logits[:, 5] = 1
    logits[5] = np.nan
    with pytest.raises(ModelError) as caught:
        ask(loaded(table_of_words(tmp_path, logits, {})), num_beams=beams)
    assert caught.value.code == "result-not-finite"


def test_a_decoder_that_drops_its_cache_is_refused(tmp_path: Path) -> None:
    def without_present(made: Any) -> None:
        kept = [value for value in made.graph.output if "present" not in value.name]
        del made.graph.output[:]
        made.graph.output.extend(kept)

    folder = exported(tmp_path, *VISION, *ANSWERS)
    changed(folder, ANSWERS[1], without_present)
    (fault,) = inspect(folder).faults
    assert "text_decoder_with_past wants the decoder's key of layer 0 for each token" in fault


def test_a_cache_of_the_new_token_alone_is_refused(tmp_path: Path) -> None:
    def only_newest(made: Any) -> None:
        name = "present.0.decoder.key"
        for node in made.graph.node:
            node.output[:] = ["whole" if output == name else output for output in node.output]
            node.input[:] = ["whole" if given == name else given for given in node.input]
        ends = {"from": [-1], "to": [1 << 30], "axis": [2]}
        made.graph.initializer.extend(numpy_helper.from_array(np.array(at, np.int64), end) for end, at in ends.items())
        made.graph.node.append(helper.make_node("Slice", ["whole", *ends], [name]))

    folder = exported(tmp_path, "vision_encoder", *CAPTIONS)
    changed(folder, CAPTIONS[1], only_newest)
    with pytest.raises(ModelError, match="the tokens before the new one included") as caught:
        ask(loaded(folder))
    assert caught.value.code == "unknown-output"


def test_halves_of_two_decoders_are_no_decoder(tmp_path: Path) -> None:
    """As where one file of an upload is left out: by their tensors the two fit each other."""
    folder = exported(tmp_path, *VISION, ANSWERS[0], CAPTIONS[1])
    (fault,) = inspect(folder).faults
    assert "caption_decoder_with_past goes on otherwise than text_decoder began" in fault


def bytes_for(model: Model, **params: Any) -> int:
    answerer = model.derived(Answerer)
    return answerer.run_bytes(answerer.asked(VqaParams(**params)), model, RecordedProgress())


def test_memory_of_rows_does_not_depend_on_what_a_graph_declares(tmp_path: Path) -> None:
    """Many exporters leave the number of tokens that a picture becomes open."""
    folder = exported(tmp_path, *VISION, *ANSWERS)
    declared = bytes_for(loaded(folder), question="what is it?")

    def of_any_size(made: Any) -> None:
        (output,) = made.graph.output
        inner = f"{output.name}.inner"
        for node in made.graph.node:
            node.output[:] = [inner if name == output.name else name for name in node.output]
        # A shape that depends on numbers cannot be inferred.
        made.graph.node.extend(
            [
                helper.make_node("Shape", [inner], ["shape"]),
                helper.make_node("ReduceMax", ["pixel_values"], ["most"], keepdims=0),
                helper.make_node("Mul", ["most", "nothing"], ["zero"]),
                helper.make_node("Cast", ["zero"], ["none"], to=TensorProto.INT64),
                helper.make_node("Add", ["shape", "none"], ["same"]),
                helper.make_node("Reshape", [inner, "same"], [output.name]),
            ]
        )
        made.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nothing"))
        for axis in (1, 2):
            output.type.tensor_type.shape.dim[axis].Clear()
            output.type.tensor_type.shape.dim[axis].dim_param = f"size_{axis}"
        onnx.checker.check_model(made)

    changed(folder, "vision_encoder", of_any_size)
    model = loaded(folder)
    assert model.graphs["vision_encoder"].outputs[0].shape[1:] == (-1, -1)
    assert bytes_for(model, question="what is it?") == declared


def test_a_row_without_cache_is_counted_with_the_numbers_of_all_its_words(tmp_path: Path) -> None:
    model = loaded(exported(tmp_path, *VISION, ANSWERS[0]))
    few, many = (bytes_for(model, question="what is it?", max_new_tokens=tokens) for tokens in (1, 41))
    assert many - few >= 40 * 92 * 4


def test_as_many_beams_are_counted_as_run(tmp_path: Path) -> None:
    model = loaded(exported(tmp_path, *VISION, *ANSWERS, batching={"max_batch_size": 4}))
    one, ten = (bytes_for(model, question="what is it?", num_beams=beams) for beams in (1, 10))
    around = model.derived(Answerer).pictures.run_bytes(model.graphs["vision_encoder"], RecordedProgress())
    assert ten - around == 10 * (one - around)
