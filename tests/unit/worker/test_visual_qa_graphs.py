"""Which graph does what is seen from its tensors, however it was exported; what fits two places is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from tests.support.blips import ANSWERS, CAPTIONS, SAMPLES, ask, changed, exported, loaded, merged, picture, renamed
from tests.support.blips import without_mask as without
from worker.engine.checking import inspect
from worker.precision.convert import Precision, convert

VISION = ("vision_encoder", "text_encoder")
DECODERS = (*ANSWERS, *CAPTIONS)


def assert_answers(folder: Path) -> None:
    model = loaded(folder)
    for sample in SAMPLES[:4]:
        asked = [one["question"] for one in sample["questions"]]
        said = ask(model, picture(sample["image"]), question=asked)["answers"]
        assert [one["answer"] for one in said] == [one["model"] for one in sample["questions"]]


def told(folder: Path) -> list[str]:
    findings = inspect(folder)
    assert findings.faults == []
    return findings.versions[0].remarks


def test_roles_are_found_without_a_word_and_told(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    assert told(folder)[:3] == [
        "vision encoder: vision_encoder",
        "question encoder: text_encoder",
        "answers: text_decoder, then text_decoder_with_past",
    ]


def test_names_of_files_mean_nothing(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    for number, graph in enumerate((*VISION, *ANSWERS)):
        changed(folder, graph, lambda made: None, to=f"part-{3 - number}")
    assert_answers(folder)


def test_a_decoder_without_cache_is_fed_the_whole_row(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, "text_decoder")
    assert "answers: text_decoder, fed the whole row for each token" in told(folder)


def test_a_captioning_model_has_no_question_encoder(tmp_path: Path) -> None:
    folder = exported(tmp_path, "vision_encoder", *CAPTIONS)
    assert "captions: caption_decoder, then caption_decoder_with_past" in told(folder)


def _hand_made(name: str) -> str:
    other = {"encoder_hidden_states": "image_embeddings", "pixel_values": "image", "input_ids": "ids"}
    other |= {"encoder_attention_mask": "image_attention_mask", "question_embeds": "last_hidden_state"}
    name = name.replace("past_key_values.", "in_past_key_value.").replace("present.", "out_past_key_value.")
    return other.get(name, name)


def test_names_of_other_exporters_are_understood(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    for graph in (*VISION, *ANSWERS):
        changed(folder, graph, lambda made: renamed(made, _hand_made))
    assert_answers(folder)


def test_inputs_without_telling_names_are_known_by_their_order(tmp_path: Path) -> None:
    def numbered(made: Any) -> None:
        names = {value.name: f"input.{number}" for number, value in enumerate(made.graph.input)}
        renamed(made, lambda name: names.get(name, name))

    def in_order(made: Any) -> None:
        # ids, states, mask of the states.
        inputs = sorted(made.graph.input, key=lambda value: value.name == "encoder_attention_mask")
        del made.graph.input[:]
        made.graph.input.extend(inputs)
        numbered(made)

    folder = exported(tmp_path, *VISION, "text_decoder")
    changed(folder, "text_encoder", numbered)
    changed(folder, "text_decoder", in_order)
    assert_answers(folder)


def test_masks_that_a_graph_does_not_take_are_not_fed(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    changed(folder, "text_decoder", lambda made: without(made, "encoder_attention_mask", "encoder_hidden_states"))
    changed(folder, "text_encoder", lambda made: without(made, "attention_mask", "input_ids"))
    assert_answers(folder)


def test_a_merged_decoder_is_both(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    merged(folder, *ANSWERS)
    assert "answers: decoder_model_merged" in told(folder)
    assert_answers(folder)


def test_float16_is_fed_where_it_is_declared(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    for graph in (*VISION, *ANSWERS):
        path = folder / "1" / f"{graph}.onnx"
        half = path.with_suffix(".half")
        convert(path, half, Precision.FP16)
        half.replace(path)
    changed(folder, "text_decoder", _half_states)
    assert_answers(folder)


def _half_states(made: Any) -> None:
    """The states come as float16, and are cast inside."""
    for value in made.graph.input:
        if value.name == "encoder_hidden_states":
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in made.graph.node:
        node.input[:] = ["states.f32" if name == "encoder_hidden_states" else name for name in node.input]
    cast = helper.make_node("Cast", ["encoder_hidden_states"], ["states.f32"], to=onnx.TensorProto.FLOAT)
    made.graph.node.insert(0, cast)


def _fixed(made: Any) -> None:
    for value in made.graph.input:
        if value.name == "input_ids":
            value.type.tensor_type.shape.dim[1].dim_value = 16


def _both(made: Any) -> None:
    made.graph.input.append(helper.make_tensor_value_info("pixel_values", 1, ["n", 3, 64, 64]))


def _lost_cache(made: Any) -> None:
    kept = [value for value in made.graph.output if value.name != "present.1.encoder.key"]
    del made.graph.output[:]
    made.graph.output.extend(kept)


@pytest.mark.parametrize(
    ("graphs", "change", "said"),
    [
        ((*VISION, *DECODERS), None, ("caption_decoder and text_decoder both look like a decoder", "graphs.answer")),
        (("vision_encoder", *DECODERS), None, ("both look like a decoder", "pipeline.graphs.caption")),
        ((*VISION, "text_decoder", *CAPTIONS[1:], *ANSWERS[1:]), None, ("both look like a decoder with past",)),
        (("text_encoder", *ANSWERS), None, ("a vision encoder is missing",)),
        (VISION, None, ("beside the question encoder text_encoder there is no decoder",)),
        (("vision_encoder",), None, ("there is no decoder",)),
        ((*VISION, "text_decoder"), _fixed, ("text_decoder.onnx takes input_ids [-1, 16] and nothing else",)),
        ((*VISION, "text_decoder"), _both, ("text_decoder.onnx takes", "export it in parts")),
        ((*VISION, *ANSWERS), _lost_cache, ("wants the encoder's key of layer 1, and text_decoder does not give it",)),
    ],
    ids=[
        "two speakers",
        "two captions",
        "two pasts",
        "blind",
        "dumb",
        "vision alone",
        "static",
        "forward",
        "lost cache",
    ],
)
def test_what_is_ambiguous_or_incomplete_is_refused(
    tmp_path: Path, graphs: tuple[str, ...], change: Callable[[Any], None] | None, said: tuple[str, ...]
) -> None:
    folder = exported(tmp_path, *graphs)
    if change is not None:
        changed(folder, "text_decoder", change)
    (fault,) = inspect(folder).faults
    assert all(part in fault for part in said), fault


def test_model_yaml_says_which_is_which(tmp_path: Path) -> None:
    names = {"caption": "caption_decoder", "caption_with_past": "caption_decoder_with_past"}
    folder = exported(tmp_path, *VISION, *DECODERS, pipeline={"graphs": names})
    assert "answers: text_decoder, then text_decoder_with_past" in told(folder)
    assert "captions: caption_decoder, then caption_decoder_with_past" in told(folder)


def test_a_graph_that_model_yaml_names_must_be_there(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS, pipeline={"graphs": {"caption": "none"}})
    (fault,) = inspect(folder).faults
    assert "pipeline.graphs names none" in fault


def test_published_files_are_followed_where_they_mean_something(tmp_path: Path) -> None:
    """As published BLIPs have it: an end of 2, a start that the tokenizer does not know, nothing of [SEP]."""
    folder = exported(tmp_path, *VISION, *ANSWERS)
    config = {"text_config": {"bos_token_id": 90, "eos_token_id": 2, "vocab_size": 92, "max_position_embeddings": 64}}
    (folder / "1" / "config.json").write_text(json.dumps(config))
    (folder / "1" / "generation_config.json").write_text('{"bos_token_id": 90, "eos_token_id": 2, "pad_token_id": 0}')
    path = folder / "1" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"] = tokenizer["added_tokens"][:5]
    path.write_text(json.dumps(tokenizer))
    assert_answers(folder)


def test_inputs_that_only_other_models_have_are_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    changed(folder, "text_encoder", lambda made: renamed(made, lambda n: n.replace("attention_mask", "token_type_ids")))
    (fault,) = inspect(folder).faults
    assert "text_encoder.onnx takes token_type_ids" in fault


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tokenizer.json", "{}", "tokenizer.json is not a tokenizer"),
        ("tokenizer.json", None, "there is no tokenizer.json"),
        ("config.json", "[", "config.json cannot be read"),
        ("preprocessor_config.json", None, "how pictures become the input is not known"),
        ("preprocessor_config.json", '{"image_processor_type": "BlipImageProcessor"}', "384 × 384"),
        (
            "generation_config.json",
            '{"decoder_start_token_id": 4000}',
            "the id 4000, and there are 92 words",
        ),
    ],
)
def test_a_publishers_file_that_is_missing_or_wrong_is_told(
    tmp_path: Path, file: str, content: str | None, said: str
) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    (folder / "1" / file).unlink()
    if content is not None:
        (folder / "1" / file).write_text(content)
    (fault,) = inspect(folder).faults
    assert said in fault


def test_what_a_publisher_asks_for_and_is_not_done_is_told(tmp_path: Path) -> None:
    folder = exported(tmp_path, *VISION, *ANSWERS)
    (folder / "1" / "generation_config.json").write_text('{"num_beams": 3, "repetition_penalty": 1.5}')
    assert "92 words, texts of up to 64 tokens; 3 beams" in told(folder)
    assert "the publisher also asks for repetition_penalty, which is not done" in told(folder)
