"""The task text-embedding on a model that can be worked out by hand: vectors, prompts, lengths, limits, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import FleetError, ModelError, RunStopped, ValidationFailed
from tests.support.ort_model import RecordedProgress
from tests.support.tiny_embedder import (
    BEGIN,
    END,
    MAX_TOKENS,
    TABLE,
    VOCABULARY,
    WIDTH,
    WORDS,
    expected,
    hidden_of,
    ids_of,
    loaded,
    make_model,
    unit,
)
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import check_model
from worker.media.embeddings import Embeddings
from worker.media.texts import GivenTexts
from worker.stop import StopReason, StopToken
from worker.tasks.text_embedding import TASK

LONG = " ".join(["cat", "dog"] * 6)
JOINING = {"batching": {"max_batch_size": 8, "dynamic": True, "instances": 2}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded(make_model(tmp_path_factory.mktemp("models"), **JOINING))


def embed(model: LoadedModel, given: Any, media: Any = None, **params: Any) -> Embeddings:
    wishes = TASK.Params.model_validate({"input": given} | params)
    return TASK.run(media, wishes, model.for_run(StopToken()), RecordedProgress())


def refused(model: LoadedModel, given: Any, **params: Any) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        embed(model, given, **params)
    return caught.value


def test_a_text_becomes_the_mean_of_its_tokens_one_unit_long(model: LoadedModel) -> None:
    answer = embed(model, "the red cat sleeps")
    np.testing.assert_allclose(answer.vectors, [expected("the red cat sleeps")], atol=1e-6)
    assert (answer.tokens.tolist(), answer.normalized, answer.truncated) == ([6], True, 0)
    assert answer.vectors.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=MAX_TOKENS - 2).map(" ".join), min_size=1, max_size=40))
def test_neighbours_never_show_in_a_vector(model: LoadedModel, texts: list[str]) -> None:
    texts = [text or "." for text in texts]
    answer = embed(model, texts)
    np.testing.assert_allclose(answer.vectors, [expected(text) for text in texts], atol=1e-6)
    assert answer.tokens.tolist() == [len(ids_of(text)) for text in texts]


def test_what_the_tokenizers_file_says_of_cutting_and_filling_up_is_switched_off(model: LoadedModel) -> None:
    assert embed(model, ["cat", "the red cat sleeps the dog runs"]).tokens.tolist() == [3, 9]


@pytest.mark.parametrize(
    ("mode", "pool"),
    [
        ("pooling_mode_cls_token", lambda hidden: hidden[0]),
        ("pooling_mode_lasttoken", lambda hidden: hidden[-1]),
        ("pooling_mode_max_tokens", lambda hidden: hidden.max(axis=0)),
        ("pooling_mode_mean_tokens", lambda hidden: hidden.mean(axis=0)),
    ],
)
def test_tokens_are_pooled_as_the_publisher_says(tmp_path: Path, mode: str, pool: Any) -> None:
    model = loaded(make_model(tmp_path, files={"1_Pooling/config.json": {mode: True}}))
    texts = ["cat", "the red cat sleeps"]
    wanted = [unit(pool(hidden_of(ids_of(text)))) for text in texts]
    np.testing.assert_allclose(embed(model, texts).vectors, wanted, atol=1e-6)


def test_the_author_overrules_the_publisher(tmp_path: Path) -> None:
    model = loaded(make_model(tmp_path, pipeline={"pooling": "cls", "normalize": False, "max_tokens": 4}))
    answer = embed(model, "red cat")
    np.testing.assert_allclose(answer.vectors, [hidden_of(ids_of("red cat"))[0]], atol=1e-6)
    assert not answer.normalized
    assert refused(model, "the red cat").code == "text-too-long"


def test_files_beside_the_versions_are_found_as_well(tmp_path: Path) -> None:
    model = loaded(make_model(tmp_path, beside=True))
    np.testing.assert_allclose(embed(model, "red").vectors, [expected("red")], atol=1e-6)


def test_a_graph_that_takes_one_length_only_is_fed_that(tmp_path: Path) -> None:
    model = loaded(make_model(tmp_path, length=8, **JOINING))
    texts = ["red", "the red cat sleeps"]
    np.testing.assert_allclose(embed(model, texts).vectors, [expected(text) for text in texts], atol=1e-6)
    assert refused(model, "the red cat sleeps the dog runs").facts["max_tokens"] == 8


@pytest.mark.parametrize(("kind", "prompt"), [("query", "query : "), ("passage", "passage : "), (None, "")])
def test_a_prompt_is_put_before_texts(model: LoadedModel, kind: str | None, prompt: str) -> None:
    answer = embed(model, ["red cat"], kind=kind)
    np.testing.assert_allclose(answer.vectors, [expected(f"{prompt}red cat")], atol=1e-6)


def test_a_prompt_may_be_named_or_be_the_models_own(tmp_path: Path, model: LoadedModel) -> None:
    wanted = [expected("passage : red")]
    np.testing.assert_allclose(embed(model, "red", prompt="document").vectors, wanted, atol=1e-6)
    own = loaded(make_model(tmp_path, pipeline={"default_prompt": "document"}))
    np.testing.assert_allclose(embed(own, "red").vectors, wanted, atol=1e-6)
    error = refused(model, "red", prompt="other")
    assert (error.code, error.facts["pointer"]) == ("prompt-unknown", "#/params/prompt")


def test_vectors_are_cut_only_where_the_author_allows_it(tmp_path: Path, model: LoadedModel) -> None:
    error = refused(model, "red", dimensions=3)
    assert (error.code, error.facts["pointer"]) == ("dimensions-unsupported", "#/params/dimensions")
    assert embed(model, "red", dimensions=WIDTH).vectors.shape == (1, WIDTH)
    nested = loaded(make_model(tmp_path, pipeline={"dimensions": [2, 3]}))
    np.testing.assert_allclose(embed(nested, "red", dimensions=3).vectors, [unit(expected("red")[:3])], atol=1e-6)
    assert refused(nested, "red", dimensions=4).code == "dimensions-unsupported"
    assert refused(nested, "red", dimensions=WIDTH + 1).code == "dimensions-unsupported"


def test_a_text_that_is_too_long_is_refused_unless_cutting_is_asked_for(model: LoadedModel) -> None:
    error = refused(model, ["red", LONG])
    assert error.code == "text-too-long"
    assert error.facts == {"item": 1, "pointer": "#/params/input/1", "tokens": 14, "max_tokens": MAX_TOKENS}
    assert refused(model, LONG).facts["pointer"] == "#/params/input"
    words = LONG.split()
    for where, kept in (("end", words[: MAX_TOKENS - 2]), ("start", words[-(MAX_TOKENS - 2) :])):
        answer = embed(model, ["red", LONG], truncate=where)
        np.testing.assert_allclose(answer.vectors[1], expected(" ".join(kept)), atol=1e-6)
        assert (answer.tokens.tolist(), answer.truncated) == ([3, MAX_TOKENS], 1)


def test_token_ids_are_fed_as_they_are(model: LoadedModel) -> None:
    one, two = [VOCABULARY["red"]], [BEGIN, VOCABULARY["cat"], END]
    answer = embed(model, [one, two])
    wanted = [unit(hidden_of(ids).mean(axis=0)) for ids in (one, two)]
    np.testing.assert_allclose(answer.vectors, wanted, atol=1e-6)
    np.testing.assert_allclose(embed(model, two).vectors, wanted[1:], atol=1e-6)
    assert answer.tokens.tolist() == [1, 3]
    cut = embed(model, [[5] * (MAX_TOKENS + 1)], truncate="end")
    assert (cut.tokens.tolist(), cut.truncated) == ([MAX_TOKENS], 1)


@pytest.mark.parametrize(
    ("given", "code", "pointer"),
    [
        (None, "input-missing", ""),
        ("", "text-empty", ""),
        ([], "input-empty", ""),
        (["red", ""], "text-empty", "/1"),
        ([["red"]], "input-mixed", "/0/0"),
        (["red", 5], "input-mixed", "/1"),
        ([5, "red"], "input-mixed", "/1"),
        ([[5], "red"], "input-mixed", "/1"),
        ([[5], []], "text-empty", "/1"),
        ([True], "input-type", "/0"),
        ([5, True], "token-id-invalid", "/1"),
        ([5, -1], "token-id-invalid", "/1"),
        ([5, 1.5], "token-id-invalid", "/1"),
        ([None], "input-type", "/0"),
        ({"text": "red"}, "input-type", ""),
        (5, "input-type", ""),
        (True, "input-type", ""),
        ([[5, 1_000_000]], "token-id-invalid", "/0"),
        ([[2**70]], "token-id-invalid", "/0"),
        (["red", "\ud83d"], "text-not-unicode", "/1"),
    ],
)
def test_what_is_no_input_is_refused_with_a_code_and_a_pointer(
    model: LoadedModel, given: Any, code: str, pointer: str
) -> None:
    error = refused(model, given)
    assert (error.code, error.facts["pointer"]) == (code, f"#/params/input{pointer}")
    assert error.errors[0]["pointer"] == f"#/params/input{pointer}"


def test_a_prompt_before_token_ids_is_refused(model: LoadedModel) -> None:
    assert refused(model, [5, 6], kind="query").code == "prompt-with-token-ids"


def test_a_request_may_not_be_without_end(tmp_path: Path) -> None:
    model = loaded(make_model(tmp_path, pipeline={"max_texts": 3, "max_total_tokens": 10}))
    assert refused(model, ["red"] * 4).code == "too-many-texts"
    assert refused(model, ["the red cat", "the red cat", "cat"]).code == "too-many-tokens"
    assert embed(model, ["red"] * 3).vectors.shape == (3, WIDTH)


def test_texts_are_not_given_twice(model: LoadedModel) -> None:
    with pytest.raises(ValidationFailed, match="given twice"):
        embed(model, "red", GivenTexts(["blue"], "#/inputs"))
    assert refused(model, "red", first=3).code == "not-lines"


def test_a_run_that_is_stopped_ends(model: LoadedModel) -> None:
    stop = StopToken()
    stop.set(StopReason.CANCELLED)
    with pytest.raises(RunStopped):
        TASK.run(None, TASK.Params(input=["red"] * 50), model.for_run(stop), RecordedProgress())


def test_vectors_that_are_no_numbers_are_no_answer(tmp_path: Path) -> None:
    table = TABLE.copy()
    table[VOCABULARY["dog"]] = np.nan
    model = loaded(make_model(tmp_path, table=table))
    with pytest.raises(ModelError) as caught:
        embed(model, ["red", "dog"])
    assert caught.value.code == "result-not-finite"


def test_a_model_that_fits_together_passes_its_check(tmp_path: Path) -> None:
    assert check_model(make_model(tmp_path)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"table": TABLE[:-1]}, "highest id of the tokenizer"),
        ({"files": {"1_Pooling/config.json": {"pooling_mode_weightedmean_tokens": True}}}, "asks for pooling_mode_wei"),
        ({"files": {"1_Pooling/config.json": None}}, "how tokens become one vector"),
        ({"files": {"modules.json": None}}, "whether vectors are made one unit long"),
        ({"files": {"modules.json": [{"path": "2_Dense", "type": "a.Dense"}]}}, "asks for Dense"),
        ({"files": {"modules.json": {"a": 1}}}, "is not a list of modules"),
        ({"files": {"sentence_bert_config.json": None}}, "how many tokens a text may have"),
        ({"pipeline": {"tokenizer": "other.json"}}, "there is no other.json"),
        ({"pipeline": {"output": "pooled"}}, "no output of the graph"),
        ({"pipeline": {"pooling": "none"}}, "wants [texts, width]"),
        ({"pipeline": {"dimensions": [WIDTH + 1]}}, "vectors have 6 numbers"),
        ({"pipeline": {"default_prompt": "other"}}, "none of the model's"),
    ],
)
def test_a_check_says_what_does_not_fit(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    faults = check_model(make_model(tmp_path, **changes))
    assert len(faults) == 1
    assert said in faults[0]


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path)
    (folder / "1" / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(FleetError) as caught:
        embed(loaded(folder), "red")
    assert caught.value.code == "tokenizer-invalid"
