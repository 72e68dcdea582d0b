"""What the model that ships says of its samples, and what is refused. Its answers are those of transformers'
`generate()`, question by question."""

import json
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import CorruptInput, ModelError, RunStopped, ValidationFailed
from tests.support.blips import (
    ANSWERS,
    CAPTIONS,
    SAMPLES,
    SHIPPED,
    WORDS,
    ask,
    exported,
    loaded,
    picture,
    pictures,
    table_of_words,
)
from tests.support.ort_model import RecordedProgress
from worker.contract import Model
from worker.media.items import encode_items
from worker.pictures.items import Item, Pictures
from worker.stop import StopReason, StopToken
from worker.tasks.visual_qa import TASK, VqaParams

GOLDENS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "support" / "visual_qa_goldens.json").read_text("utf-8")
)
VISION = ("vision_encoder", "text_encoder")


@pytest.fixture(scope="module")
def shapes() -> Model:
    return loaded(SHIPPED)


def questions(sample: dict[str, Any]) -> list[str]:
    return [asked["question"] for asked in sample["questions"]]


@pytest.mark.parametrize("beams", GOLDENS["beams"])
def test_any_question_is_answered_as_transformers_answers_it(shapes: Model, beams: int) -> None:
    """Those of the samples, and some that nobody should ask: `benchmarks/reference_visual_qa.py` did."""
    place = GOLDENS["beams"].index(beams)
    for image, asked in groupby(GOLDENS["answers"], key=itemgetter("image")):
        wanted = {one["question"]: one["answers"][place] for one in asked}
        how = {"num_beams": beams, "max_new_tokens": GOLDENS["max_new_tokens"]}
        said = ask(shapes, picture(image), question=list(wanted), **how)["answers"]
        assert {one["question"]: one["answer"] for one in said} == wanted


@pytest.mark.parametrize("beams", GOLDENS["beams"])
def test_any_caption_is_as_transformers_makes_it(shapes: Model, beams: int) -> None:
    place = GOLDENS["beams"].index(beams)
    for wanted in GOLDENS["captions"]:
        how = {"num_beams": beams, "max_new_tokens": GOLDENS["max_new_tokens"]}
        said = ask(shapes, picture(wanted["image"]), kind="caption", prompt=wanted["prompt"], **how)
        assert said["answer"] == wanted["captions"][place], wanted


@pytest.mark.parametrize("cache", [True, False], ids=["with cache", "without cache"])
def test_every_sample_is_answered_as_transformers_answers_it(tmp_path: Path, shapes: Model, cache: bool) -> None:
    model = shapes if cache else loaded(exported(tmp_path, *VISION, "text_decoder"))
    for sample in SAMPLES:
        said = ask(model, picture(sample["image"]), question=questions(sample))
        assert [one["answer"] for one in said["answers"]] == [asked["model"] for asked in sample["questions"]]
        assert [one["question"] for one in said["answers"]] == questions(sample)
        assert (said["kind"], said["search"], said["num_beams"]) == ("answer", "greedy", 1)


@pytest.mark.parametrize("cache", [True, False], ids=["with cache", "without cache"])
def test_every_sample_has_the_caption_of_transformers(tmp_path: Path, shapes: Model, cache: bool) -> None:
    model = shapes if cache else loaded(exported(tmp_path, "vision_encoder", "caption_decoder"))
    for sample in SAMPLES:
        said = ask(model, picture(sample["image"]))
        assert (said["answer"], said["kind"]) == (sample["model_caption"], "caption")


def test_a_question_alone_is_answered_as_among_others(shapes: Model) -> None:
    together = ask(shapes, question=questions(SAMPLES[0]))["answers"]
    for said in together:
        alone = ask(shapes, question=said["question"])
        assert alone["answer"] == said["answer"]
        assert alone["confidence"] == pytest.approx(said["confidence"], rel=1e-4)
        assert (alone["kind"], alone["finish_reason"], alone["tokens"]) == ("answer", "stop", said["tokens"])


def test_rows_end_one_by_one(shapes: Model) -> None:
    """They are of the same length, so that they are decoded together."""
    asked = ["is there a black shape?", "what is the red shape?", "what is in the image?", "is there a black circle?"]
    said = ask(shapes, question=asked)["answers"]
    assert [one["answer"] for one in said] == ["no", "triangle", "a red triangle", "no"]
    assert [one["tokens"] for one in said] == [2, 2, 4, 2]


def test_a_caption_goes_on_from_its_prompt(shapes: Model) -> None:
    for sample in SAMPLES[:4]:
        said = ask(shapes, picture(sample["image"]), kind="caption", prompt="a picture of")
        assert said["answer"] == f"a picture of {sample['model_caption']}"
        assert said["tokens"] == 4, "only the new ones count"


def test_a_prompt_is_the_question_where_questions_are_taken(tmp_path: Path, shapes: Model) -> None:
    assert ask(shapes, prompt="what is the red shape?")["answer"] == "triangle"
    captions = loaded(exported(tmp_path, "vision_encoder", *CAPTIONS))
    assert ask(captions, prompt="this is")["answer"] == "this is a red triangle"


def test_beams_answer_as_surely_as_greedy_search_or_more(shapes: Model) -> None:
    for sample in SAMPLES[:5]:
        first, best = (
            ask(shapes, picture(sample["image"]), question=questions(sample), num_beams=beams) for beams in (1, 4)
        )
        assert (best["search"], best["num_beams"]) == ("beam", 4)
        assert [one["answer"] for one in best["answers"]] == [one["answer"] for one in first["answers"]]


def test_an_answer_is_cut_where_it_is_asked_to_be(shapes: Model) -> None:
    said = ask(shapes, question="what is in the image?", max_new_tokens=2)
    assert (said["answer"], said["tokens"], said["finish_reason"]) == ("a red", 2, "length")


def test_each_of_many_pictures_is_asked_and_a_bad_one_fails_alone(shapes: Model) -> None:
    def broken(*_: object) -> Any:
        raise CorruptInput("the picture is cut off", code="corrupt-picture")

    good = [picture(sample["image"]) for sample in SAMPLES]
    items = [*pictures(*good).items, Item("broken.png", broken)]
    params = VqaParams(question="what is in the image?")
    outcome = TASK.run(Pictures(items, many=True), params, shapes, RecordedProgress())
    said = encode_items(outcome, Path("/nowhere")).result
    assert (said["count"], said["succeeded"], said["failed"]) == (21, 20, 1)
    for sample, item in zip(SAMPLES, said["items"], strict=False):
        assert item["result"]["answer"] == sample["questions"][-1]["model"]
    assert said["items"][20]["error"]["code"] == "corrupt-picture"


def test_rows_of_different_pictures_may_share_a_run(tmp_path: Path) -> None:
    batching = {"max_batch_size": 8, "dynamic": True}
    model = loaded(exported(tmp_path, *VISION, *ANSWERS, batching=batching))
    said = ask(model, *[picture(sample["image"]) for sample in SAMPLES], question="what is in the image?")
    for sample, item in zip(SAMPLES, said["items"], strict=True):
        assert item["result"]["answer"] == sample["questions"][-1]["model"]


def test_more_questions_than_a_batch_holds_are_asked_in_turns(tmp_path: Path) -> None:
    model = loaded(exported(tmp_path, *VISION, *ANSWERS, batching={"max_batch_size": 3}))
    asked = questions(SAMPLES[0]) * 4
    said = ask(model, question=asked, num_beams=2)["answers"]
    assert [one["answer"] for one in said] == [one["model"] for one in SAMPLES[0]["questions"]] * 4


def test_a_job_that_is_stopped_decodes_no_further() -> None:
    stop = StopToken()
    model = loaded(SHIPPED, stop)
    assert ask(model)["answer"] == "a red triangle"
    stop.set(StopReason.CANCELLED)
    with pytest.raises(RunStopped):
        ask(model)


@pytest.mark.parametrize(
    ("params", "code", "pointer"),
    [
        ({"question": "what " * 70}, "prompt-too-long", "#/params/question"),
        ({"question": ["what is it?", "what " * 70]}, "prompt-too-long", "#/params/question/1"),
        ({"prompt": "what " * 70}, "prompt-too-long", "#/params/prompt"),
        ({"kind": "caption", "prompt": "a " * 63}, "prompt-too-long", "#/params/prompt"),
        ({"question": ""}, "question-empty", "#/params/question"),
        ({"question": ["what?", "  "]}, "question-empty", "#/params/question/1"),
        ({"question": "what?", "prompt": "what?"}, "question-twice", "#/params/prompt"),
        ({"question": "what?", "kind": "caption"}, "question-twice", "#/params/question"),
        ({"kind": "answer"}, "question-missing", "#/params/question"),
    ],
)
def test_what_cannot_be_asked_is_refused(shapes: Model, params: dict[str, Any], code: str, pointer: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        ask(shapes, **params)
    assert caught.value.code == code
    assert caught.value.errors[0]["pointer"] == pointer


def test_a_model_of_captions_takes_no_questions_and_one_of_answers_makes_no_captions(tmp_path: Path) -> None:
    captions = loaded(exported(tmp_path / "captions", "vision_encoder", *CAPTIONS))
    answers = loaded(exported(tmp_path / "answers", *VISION, *ANSWERS))
    for model, params, code in (
        (captions, {"question": "what?"}, "questions-unsupported"),
        (captions, {"kind": "answer"}, "questions-unsupported"),
        (answers, {"kind": "caption"}, "captions-unsupported"),
        (answers, {}, "question-missing"),
    ):
        with pytest.raises(ValidationFailed) as caught:
            ask(model, **params)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "params",
    [{"question": []}, {"question": ["what?"] * 65}, {"num_beams": 0}, {"num_beams": 11}, {"max_new_tokens": 0}],
)
def test_params_have_bounds(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        VqaParams(**params)


def test_numbers_that_are_not_finite_are_no_answer(tmp_path: Path) -> None:
    logits = np.full((WORDS, WORDS), np.nan, np.float32)
    model = loaded(table_of_words(tmp_path, logits, {}))
    for beams in (1, 3):
        with pytest.raises(ModelError) as caught:
            ask(model, num_beams=beams, max_new_tokens=3)
        assert caught.value.code == "result-not-finite"


def test_pictures_of_any_size_are_fed(shapes: Model) -> None:
    array = np.repeat(np.repeat(picture("0000.png"), 3, axis=0), 5, axis=1)
    assert ask(shapes, array, question="what is the red shape?")["answer"] == "triangle"
