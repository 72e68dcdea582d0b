"""Many texts, part by part: what an attempt has finished is not done again, and the vectors are the same to the bit."""

import errno
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import RunStopped, ValidationFailed
from tests.support.kept_parts import KeptParts
from tests.support.ort_model import RecordedProgress
from tests.support.tiny_embedder import MAX_TOKENS, MODEL, WIDTH, WORDS, expected, loaded, make_model
from worker.contract import Array
from worker.engine.loaded import LoadedModel, RunnableModel
from worker.media.embeddings import Embeddings, VectorFile, encode_embeddings
from worker.media.texts import Lines
from worker.stop import StopToken
from worker.tasks.text_embedding import TASK
from worker.text import bulk
from worker.text.bulk import EmbeddedPart

PART = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    batching = {"max_batch_size": 4, "dynamic": True, "instances": 2}
    return loaded(make_model(tmp_path_factory.mktemp("models"), batching=batching))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PART_LINES", PART)


class Counting(RunnableModel):
    """Counts the rows that are run."""

    rows = 0

    def batched(self, feeds: Any, most_rows: int | None = None) -> dict[str, Array]:
        self.rows += len(feeds["input_ids"])
        return super().batched(feeds, most_rows)


def texts_of(count: int) -> list[str]:
    chance = np.random.default_rng(8)
    return [" ".join(chance.choice(WORDS, chance.integers(1, MAX_TOKENS - 2))) for _ in range(count)]


def lines_of(folder: Path, texts: list[str]) -> Lines:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in texts))
    return Lines(path)


def attempt(
    model: LoadedModel, lines: Lines, parts: KeptParts, progress: RecordedProgress | None = None, **params: Any
) -> tuple[Embeddings, int]:
    """-> the answer, and how many texts were run for it."""
    progress = progress or RecordedProgress()
    progress.kept = parts
    runnable = Counting(model, model.main, StopToken())
    return TASK.run(lines, TASK.Params.model_validate(params), runnable, progress), runnable.rows


@pytest.mark.parametrize("kept", range(1, 7))
def test_a_later_attempt_runs_only_what_none_has_kept_and_the_answer_is_the_same(
    model: LoadedModel, tmp_path: Path, kept: int
) -> None:
    texts = texts_of(5 * PART + 3)
    lines = lines_of(tmp_path, texts)
    whole, ran = attempt(model, lines, KeptParts())
    assert ran == len(texts)
    np.testing.assert_allclose(whole.vectors, [expected(text) for text in texts], atol=1e-6)

    parts = KeptParts(keeps_left=kept)
    with pytest.raises(RunStopped):
        attempt(model, lines, parts)
    parts.keeps_left = None
    progress = RecordedProgress()
    resumed, ran = attempt(model, lines, parts, progress)
    assert resumed.vectors.tobytes() == whole.vectors.tobytes()
    assert resumed.tokens.tolist() == whole.tokens.tolist()
    # The first that is kept is the finding that there is no fault in the lines.
    assert ran == len(texts) - min(kept - 1, 5) * PART
    assert sorted(parts.keeps) == sorted(set(parts.keeps)), "none is kept twice"
    done = [step for step, total in progress.steps]
    assert done == sorted(done)
    assert done[0] == (PART if kept > 1 else done[0])
    assert progress.steps[-1] == (len(texts), len(texts))


def test_a_part_that_has_gone_missing_is_made_again(model: LoadedModel, tmp_path: Path) -> None:
    texts = texts_of(4 * PART)
    lines, parts = lines_of(tmp_path, texts), KeptParts()
    whole, _ = attempt(model, lines, parts)
    gone = sorted(parts.content)[2]
    del parts.content[gone]
    resumed, ran = attempt(model, lines, parts)
    assert ran == PART
    assert parts.keeps[-1] == gone
    assert resumed.vectors.tobytes() == whole.vectors.tobytes()


def test_how_many_texts_were_cut_is_counted_over_all_attempts(model: LoadedModel, tmp_path: Path) -> None:
    long = " ".join(["cat"] * MAX_TOKENS)
    lines = lines_of(tmp_path, ["red", long] * PART)
    parts = KeptParts(keeps_left=2)
    with pytest.raises(RunStopped):
        attempt(model, lines, parts, truncate="end")
    parts.keeps_left = None
    answer, _ = attempt(model, lines, parts, truncate="end")
    assert answer.truncated == PART


def test_lines_are_looked_through_once_and_not_by_every_attempt(model: LoadedModel, tmp_path: Path) -> None:
    lines, parts = lines_of(tmp_path, texts_of(3 * PART)), KeptParts()
    attempt(model, lines, parts)
    assert json.loads(parts.content["checked"]) == {"texts": 3 * PART}
    tokenizer = model.derived.get(bulk.Encoder, model.for_run(StopToken())).tokenizer
    told: list[int] = []
    original = tokenizer.tokenize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "tokenize", lambda texts, *a, **k: told.append(len(texts)) or original(texts, *a, **k))
        attempt(model, lines, parts)
    assert told == [], "all was kept, and the lines were found sound before"


def test_a_fault_in_the_last_line_is_told_before_anything_is_kept(model: LoadedModel, tmp_path: Path) -> None:
    lines, parts = lines_of(tmp_path, [*texts_of(3 * PART), ""]), KeptParts()
    with pytest.raises(ValidationFailed, match="is empty"):
        attempt(model, lines, parts)
    assert parts.keeps == []


def test_a_job_of_one_part_keeps_nothing(model: LoadedModel, tmp_path: Path) -> None:
    parts = KeptParts()
    attempt(model, lines_of(tmp_path, texts_of(PART)), parts)
    assert parts.keeps == []


def test_parts_hinge_on_the_tokenizer_and_the_recipe_wherever_these_lie(tmp_path: Path) -> None:
    def hinges(folder: str, **changes: Any) -> str:
        progress = RecordedProgress()
        model = loaded(make_model(tmp_path / folder, beside=True, **changes))
        attempt(model, lines_of(tmp_path, ["red"]), KeptParts(), progress)
        return progress.hinges_on

    same = hinges("a")
    assert hinges("b") == same
    assert hinges("c", files={"1_Pooling/config.json": {"pooling_mode_cls_token": True}}) != same
    tokenizer = json.loads((tmp_path / "a" / MODEL / "tokenizer.json").read_text())
    assert hinges("d", files={"tokenizer.json": tokenizer | {"normalizer": None}}) != same


def test_many_vectors_go_to_a_file_as_they_are_made(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_SMALL_BYTES", 100)
    texts, parts = texts_of(5 * PART), KeptParts(keeps_left=3)
    lines = lines_of(tmp_path, texts)
    progress = RecordedProgress(folder=tmp_path)
    with pytest.raises(RunStopped):
        attempt(model, lines, parts, progress)
    parts.keeps_left = None
    answer, _ = attempt(model, lines, parts, progress)
    in_memory = bulk._BESIDES_BYTES + 8 * len(texts)
    assert progress.asked == [(in_memory, None)] * 2
    assert answer.file is not None
    np.testing.assert_allclose(answer.vectors, [expected(text) for text in texts], atol=1e-6)

    encoded = encode_embeddings(answer, tmp_path)
    assert [file.path for file in encoded.files] == [tmp_path / "embeddings.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "embeddings.npy"), answer.vectors)
    content = (tmp_path / "embeddings.npy").read_bytes()
    assert content[encoded.result["offset"] :] == np.asarray(answer.vectors).tobytes()


def test_vectors_that_are_in_the_file_are_not_held_in_memory_as_well(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_SMALL_BYTES", 100)
    appended: list[weakref.ref[Array]] = []
    most, append = 0, VectorFile.append

    def watched(file: VectorFile, vectors: Array) -> None:
        nonlocal most
        append(file, vectors)
        appended.append(weakref.ref(vectors))
        most = max(most, sum(kept() is not None for kept in appended))

    monkeypatch.setattr(VectorFile, "append", watched)
    attempt(model, lines_of(tmp_path, texts_of(8 * PART)), KeptParts(), RecordedProgress(folder=tmp_path))
    assert len(appended) == 8
    assert most <= 2


def test_a_file_of_vectors_takes_its_disk_at_once(tmp_path: Path) -> None:
    file = VectorFile(tmp_path / "embeddings.npy", 1000, WIDTH)
    assert (tmp_path / "embeddings.npy").stat().st_blocks * 512 >= 1000 * WIDTH * 4
    file.append(np.ones((1000, WIDTH), np.float32))
    file.close()
    assert np.load(tmp_path / "embeddings.npy").sum() == 1000 * WIDTH


def test_a_full_disk_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("worker.media.embeddings.os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        VectorFile(tmp_path / "embeddings.npy", 1000, WIDTH)


def test_a_part_comes_back_as_it_was_packed() -> None:
    part = EmbeddedPart(np.array([[0.1, -0.0], [1e-38, 3.4e38]], np.float32), np.array([3, 9], np.int32), 1)
    back = EmbeddedPart.unpacked(part.packed())
    assert (back.vectors.tobytes(), back.tokens.tolist(), back.truncated) == (part.vectors.tobytes(), [3, 9], 1)
    assert back.vectors.dtype == np.float32
