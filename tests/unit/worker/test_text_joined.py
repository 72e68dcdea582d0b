"""Jobs of embeddings that are several requests, or a part of one: whose texts are wrong, and how they are numbered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.embeddings import requests_in
from fleet.errors import ValidationFailed
from tests.support.ort_model import RecordedProgress
from tests.support.tiny_embedder import MAX_TOKENS, WIDTH, expected, loaded, make_model
from worker.engine.loaded import LoadedModel
from worker.media.embeddings import Embeddings, encode_embeddings
from worker.stop import StopToken
from worker.tasks.text_embedding import TASK

LONG = "red " * MAX_TOKENS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded(make_model(tmp_path_factory.mktemp("models"), pipeline={"max_texts": 8, "truncate": "refuse"}))


def embed(model: LoadedModel, texts: list[Any], **params: Any) -> Embeddings:
    wishes = TASK.Params.model_validate({"input": texts} | params)
    return TASK.run(None, wishes, model.for_run(StopToken()), RecordedProgress())


def test_joined_requests_have_their_vectors_in_order(model: LoadedModel) -> None:
    texts = ["the red cat", "dog", "blue bird"]
    answer = embed(model, texts, joined=[1, 2])
    np.testing.assert_allclose(answer.vectors, [expected(text) for text in texts], atol=1e-6)
    assert answer.refused is None


def test_a_request_whose_text_is_wrong_is_left_out_and_the_others_are_not(model: LoadedModel, tmp_path: Path) -> None:
    answer = embed(model, ["the red cat", "dog", LONG, "blue bird", LONG], joined=[1, 2, 1, 1])
    np.testing.assert_allclose(answer.vectors, [expected("the red cat"), expected("blue bird")], atol=1e-6)
    assert answer.tokens.tolist() == [5, 4]
    assert answer.refused is not None
    # Numbered as in its own request.
    told = [(each.request, each.error.code, each.error.facts["item"]) for each in answer.refused]
    assert told == [(1, "text-too-long", 1), (3, "text-too-long", 0)]
    result = encode_embeddings(answer, tmp_path).result
    assert [each["request"] for each in result["refused"]] == [1, 3]


def test_requests_that_are_all_wrong_leave_no_vector(model: LoadedModel) -> None:
    answer = embed(model, [LONG, LONG], joined=[1, 1])
    assert answer.vectors.shape == (0, WIDTH)
    assert answer.refused is not None
    assert len(answer.refused) == 2


def test_what_is_wrong_with_all_fails_the_job(model: LoadedModel) -> None:
    with pytest.raises(ValidationFailed) as caught:
        embed(model, ["red", "blue"], joined=[1, 1], prompt="nobody's")
    assert caught.value.code == "prompt-unknown"


def test_joined_requests_have_as_many_texts_as_they_say(model: LoadedModel) -> None:
    with pytest.raises(ValidationFailed) as caught:
        embed(model, ["red", "blue"], joined=[1, 2])
    assert caught.value.code == "joined-mismatch"


def test_a_part_numbers_its_texts_as_the_whole_request_does(model: LoadedModel) -> None:
    with pytest.raises(ValidationFailed) as caught:
        embed(model, ["red", LONG], part={"number_from": 5, "of": 8})
    assert caught.value.facts["item"] == 6
    assert caught.value.errors[0]["pointer"] == "#/params/input/6"
    assert "text 6 has" in caught.value.message


def test_the_limit_of_a_request_is_that_of_its_parts_together(model: LoadedModel) -> None:
    assert len(embed(model, ["red"], part={"number_from": 0, "of": 8}).vectors) == 1
    with pytest.raises(ValidationFailed) as caught:
        embed(model, ["red"], part={"number_from": 0, "of": 9})
    assert caught.value.code == "too-many-texts"


@pytest.mark.parametrize(
    ("params", "requests"),
    [
        ({"input": ["a"]}, 1),
        ({"input": ["a", "b", "c"], "joined": [1, 2]}, 2),
        ({"input": ["a"], "part": {"number_from": 0, "of": 2}}, 1),
        ({"input": ["b"], "part": {"number_from": 1, "of": 2}}, 0),
        ({}, 1),
    ],
)
def test_a_job_counts_as_the_requests_that_it_answers(params: dict[str, Any], requests: int) -> None:
    assert requests_in(params) == requests
