"""Which texts run together, what is kept for the answer, and how the answer's bytes are read."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.contracts import Priority
from fleet.embeddings import MAX_LISTED_TOKENS, EmbeddingResult
from fleet.errors import ModelError
from worker.contract import Array
from worker.engine.batch_queue import BatchQueue, Call
from worker.engine.manifest import Batching
from worker.media.embeddings import Embeddings, encode_embeddings
from worker.stop import StopToken
from worker.text.batches import chunks, filled
from worker.text.pooling import cut, pooled

LENGTHS = st.lists(st.integers(1, 512), max_size=200)


@given(LENGTHS, st.integers(1, 4096), st.integers(1, 64))
def test_each_text_runs_once_and_no_run_is_larger_than_it_may_be(
    lengths: list[int], run_tokens: int, max_rows: int
) -> None:
    plan = list(chunks(lengths, run_tokens=run_tokens, max_rows=max_rows, max_tokens=512))
    assert sorted(place for chunk in plan for place in chunk.places) == list(range(len(lengths)))
    for chunk in plan:
        assert len(chunk.places) <= min(max_rows, chunk.most_rows)
        assert chunk.tokens <= run_tokens or len(chunk.places) == 1
        assert max(lengths[place] for place in chunk.places) <= chunk.length <= 512


@given(LENGTHS)
def test_texts_of_unlike_length_do_not_fill_each_other_up(lengths: list[int]) -> None:
    for chunk in chunks(lengths, run_tokens=16_384, max_rows=256, max_tokens=512):
        own = [lengths[place] for place in chunk.places]
        assert all(length >= 0.75 * max(own) or length >= max(own) - 8 for length in own)


def test_much_text_costs_little_padding() -> None:
    chance = np.random.default_rng(1)
    lengths = [int(chance.integers(8, 24)) if n % 10 < 5 else 64 if n % 10 < 9 else 256 for n in range(256)]
    plan = list(chunks(lengths, run_tokens=512, max_rows=256, max_tokens=256))
    assert sum(chunk.tokens for chunk in plan) < 1.03 * sum(lengths)


def test_what_fills_up_is_masked() -> None:
    ids, mask = filled([np.array([7, 8, 9]), np.array([5])], 4, 1)
    assert ids.tolist() == [[7, 8, 9, 1], [5, 1, 1, 1]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


def test_an_output_of_another_shape_is_not_pooled() -> None:
    with pytest.raises(ModelError) as caught:
        pooled(np.zeros((2, 4), np.float32), np.ones((2, 3), np.int64), "mean")
    assert caught.value.code == "pooling-shape"


def test_half_precision_becomes_single_before_it_is_added_up() -> None:
    hidden = np.full((1, 2048, 2), 60.0, np.float16)
    vectors = pooled(hidden, np.ones((1, 2048), np.int64), "mean")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, 60.0, rtol=1e-4)


def test_a_vector_of_zeros_stays_one() -> None:
    assert cut(np.zeros((1, 3), np.float32), None, normalize=True).tolist() == [[0, 0, 0]]


def answer(vectors: Array) -> Embeddings:
    return Embeddings(vectors, np.arange(len(vectors), dtype=np.int32), normalized=True, truncated=2)


def test_a_few_vectors_lie_in_the_result_as_little_endian_bytes(tmp_path: Path) -> None:
    encoded = encode_embeddings(answer(np.array([[0.6, 0.8]], np.float32)), tmp_path)
    assert encoded.files == []
    assert encoded.result["data"] == "mpkZP83MTD8="
    result = EmbeddingResult.model_validate(encoded.result)
    assert bytes(result.vectors()) == np.array([0.6, 0.8], "<f4").tobytes()
    assert (result.tokens, result.truncated, result.normalized, result.dimensions) == ([0], 2, True, 2)


def test_many_vectors_become_a_file_that_numpy_reads(tmp_path: Path) -> None:
    vectors = np.random.default_rng(2).normal(size=(MAX_LISTED_TOKENS + 2500, 16)).astype(np.float32)
    encoded = encode_embeddings(answer(vectors), tmp_path)
    assert [file.name for file in encoded.files] == ["embeddings.npy", "tokens.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "embeddings.npy"), vectors)
    assert np.load(tmp_path / "tokens.npy").tolist() == list(range(len(vectors)))
    result = EmbeddingResult.model_validate(encoded.result)
    assert (result.tokens, result.data, result.count) == (None, None, len(vectors))
    assert bytes(result.vectors((tmp_path / "embeddings.npy").read_bytes())) == vectors.tobytes()


def test_bytes_that_are_not_all_there_are_not_taken_for_vectors() -> None:
    result = EmbeddingResult(
        count=2, dimensions=2, normalized=True, total_tokens=2, truncated=0, artifact="embeddings.npy", offset=128
    )
    with pytest.raises(ModelError, match="are not 2 vectors"):
        result.vectors(bytes(128 + 8))


def test_a_call_is_joined_with_no_more_rows_than_it_says() -> None:
    queue = BatchQueue(Batching(max_batch_size=8, dynamic=True))
    feeds, bucket = {"x": np.zeros((1, 4), np.float32)}, (("x", "<f4", (4,)),)
    for number in range(5):
        queue.add(
            Call(
                feeds=feeds,
                rows=1,
                bucket=bucket,
                stop=StopToken(),
                priority=Priority.NORMAL,
                number=number,
                runs_before=0,
                came_at=0.0,
                waits_until=0.0,
                most_rows=3,
            )
        )
    runs = []
    while (leader := queue.next_leader(0.0)) is not None:
        runs.append([call.number for call in queue.company(leader)])
    assert runs == [[0, 1, 2], [3, 4]]
