"""JSON lines: millions of texts as one input; and JSON documents."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import FleetError, RunStopped
from tests.support.ort_model import RecordedProgress
from tests.support.tiny_embedder import MAX_TOKENS, WORDS, expected, loaded, make_model
from worker.contract import Source
from worker.engine.loaded import LoadedModel
from worker.media.embeddings import Embeddings
from worker.media.texts import GivenTexts, Lines, read_texts
from worker.stop import StopToken
from worker.tasks.text_embedding import TASK

LINES = "application/jsonl"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded(make_model(tmp_path_factory.mktemp("models")))


def source(folder: Path, content: str | bytes, media_type: str = LINES, name: str = "") -> Source:
    path = folder / "texts"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Source(path, name, media_type)


def embed(model: LoadedModel, given: Source, progress: RecordedProgress | None = None, **params: Any) -> Embeddings:
    wishes = TASK.Params.model_validate(params)
    return TASK.run(read_texts([given]), wishes, model.for_run(StopToken()), progress or RecordedProgress())


def some_texts(count: int) -> list[str]:
    chance = np.random.default_rng(3)
    return [" ".join(chance.choice(WORDS, chance.integers(1, MAX_TOKENS - 2))) for _ in range(count)]


def test_lines_of_several_parts_come_back_in_order(model: LoadedModel, tmp_path: Path) -> None:
    texts, progress = some_texts(4500), RecordedProgress()
    lines = "".join(json.dumps(text if n % 3 else {"id": n, "text": text}) + "\n" for n, text in enumerate(texts))
    answer = embed(model, source(tmp_path, lines), progress)
    np.testing.assert_allclose(answer.vectors, [expected(text) for text in texts], atol=1e-6)
    assert answer.tokens.tolist() == [len(text.split()) + 2 for text in texts]
    assert progress.steps[-1] == (4500, 4500)
    assert [done for done, _ in progress.steps] == sorted(done for done, _ in progress.steps)


def test_a_part_of_the_lines_can_be_asked_for(model: LoadedModel, tmp_path: Path) -> None:
    texts = some_texts(30)
    given = source(tmp_path, "\n".join(map(json.dumps, texts)))
    answer = embed(model, given, first=10, count=5)
    np.testing.assert_allclose(answer.vectors, [expected(text) for text in texts[10:15]], atol=1e-6)
    assert embed(model, given, first=28, count=500).vectors.shape[0] == 2
    with pytest.raises(FleetError) as caught:
        embed(model, given, first=30)
    assert caught.value.code == "input-empty"


def test_lines_of_token_ids_are_taken(model: LoadedModel, tmp_path: Path) -> None:
    assert embed(model, source(tmp_path, "[4, 5]\n[6]\n")).tokens.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('"' + "cat " * 40 + '"', "text-too-long"),
        ("not JSON", "line-invalid"),
        ("", "line-invalid"),
        ("5", "line-invalid"),
        ('{"words": "red"}', "line-invalid"),
        ('""', "text-empty"),
        ("[4, 5]", "input-mixed"),
    ],
)
def test_what_is_wrong_with_the_last_line_is_told_before_the_first_run(
    model: LoadedModel, tmp_path: Path, line: str, code: str
) -> None:
    progress = RecordedProgress()
    with pytest.raises(FleetError) as caught:
        embed(model, source(tmp_path, '"red"\n' * 2500 + line + "\n"), progress)
    assert caught.value.code == code
    assert (caught.value.facts["item"], caught.value.facts["pointer"]) == (2500, "#/inputs/0/2500")
    assert progress.steps == []


def test_a_run_over_lines_that_is_stopped_ends(model: LoadedModel, tmp_path: Path) -> None:
    progress = RecordedProgress(stop=RunStopped("the job was cancelled", code="cancelled"))
    with pytest.raises(RunStopped):
        embed(model, source(tmp_path, '"red"\n' * 10), progress)


def test_a_name_tells_lines_as_well_as_a_media_type(tmp_path: Path) -> None:
    octets = "application/octet-stream"
    assert isinstance(read_texts([source(tmp_path, '"a"\n', octets, "texts.jsonl")]), Lines)
    assert isinstance(read_texts([source(tmp_path, '"a"\n', "application/x-ndjson; charset=utf-8")]), Lines)
    assert read_texts([source(tmp_path, '"a"\n', octets)]) == GivenTexts(["a"], "#/inputs/0", single=True)


@pytest.mark.parametrize(
    ("document", "texts", "single"),
    [
        ('["red", "blue"]', ["red", "blue"], False),
        ('{"input": "red", "model": "any"}', ["red"], True),
        ("[[4, 5], [6]]", [[4, 5], [6]], False),
        ("[4, 5]", [[4, 5]], True),
    ],
)
def test_a_document_holds_what_a_request_may_say(tmp_path: Path, document: str, texts: Any, single: bool) -> None:
    assert read_texts([source(tmp_path, document, "application/json")]) == GivenTexts(texts, "#/inputs/0", single)


@pytest.mark.parametrize(
    ("document", "code"),
    [('"a"\n"b"\n', "texts-unreadable"), ("{}", "input-missing"), ("[]", "input-empty"), (b"\xff", "texts-unreadable")],
)
def test_a_document_that_holds_no_texts_is_refused(tmp_path: Path, document: str | bytes, code: str) -> None:
    with pytest.raises(FleetError) as caught:
        read_texts([source(tmp_path, document, "application/json")])
    assert caught.value.code == code


def test_several_inputs_are_a_plain_text_each(tmp_path: Path) -> None:
    octets = "application/octet-stream"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = source(tmp_path / "a", "red cat", octets), source(tmp_path / "b", "été", "text/plain")
    assert read_texts([one, two]) == GivenTexts(["red cat", "été"], "#/inputs")
    assert read_texts([two]) == GivenTexts(["été"], "#/inputs")
    assert read_texts([source(tmp_path, "[1]", octets, "list.txt")]) == GivenTexts(["[1]"], "#/inputs")
    assert read_texts([]) is None


@pytest.mark.parametrize(
    ("content", "media_type", "code", "pointer"),
    [
        (b"\xff", "text/plain", "text-not-unicode", "#/inputs/1"),
        (b"", "text/plain", "text-empty", "#/inputs/1"),
        (b'["red"]', "application/json", "inputs-too-many", "#/inputs"),
        (b'"red"', LINES, "inputs-too-many", "#/inputs"),
    ],
)
def test_which_of_several_inputs_is_wrong_is_told(
    tmp_path: Path, content: bytes, media_type: str, code: str, pointer: str
) -> None:
    (tmp_path / "other").mkdir()
    inputs = [source(tmp_path, "red", "text/plain"), source(tmp_path / "other", content, media_type)]
    with pytest.raises(FleetError) as caught:
        read_texts(inputs)
    assert (caught.value.code, caught.value.facts["pointer"]) == (code, pointer)
