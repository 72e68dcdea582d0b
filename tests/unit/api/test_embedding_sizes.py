"""How requests for embeddings are cut into parts, and how many small ones make one job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.embedding_sizes import Size, Sizes, cut, size_of
from fleet.embeddings import MAX_INLINE_BYTES, EmbeddingResult
from tests.support.ended_job import ended

SIZES = st.lists(st.builds(Size, st.integers(1, 9000), st.integers(1, 100_000)), min_size=1, max_size=300)


@given(SIZES, st.integers(1, 20_000))
def test_every_text_is_in_one_part_and_in_its_order(sizes: list[Size], most_tokens: int) -> None:
    parts = cut(sizes, most_tokens)
    assert [place for part in parts for place in part] == list(range(len(sizes)))
    assert all(len(part) > 0 for part in parts)


def test_parts_have_about_the_same_number_of_tokens() -> None:
    sizes = [Size(16, 60)] * 128 + [Size(64, 250)] * 102 + [Size(256, 1000)] * 26
    parts = cut(sizes, 8192)
    assert len(parts) == 2
    tokens = [sum(sizes[place].tokens for place in part) for part in parts]
    assert abs(tokens[0] - tokens[1]) <= 256


def test_few_tokens_are_not_cut() -> None:
    assert cut([Size(10, 40)] * 50, 8192) == [range(50)]


def test_a_part_has_no_more_bytes_than_the_record_should_keep() -> None:
    parts = cut([Size(1, 200_000), Size(1, 200_000), Size(1, 10), Size(1, 10)], 8192)
    assert parts == [range(1), range(1, 4)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("word word word", 5), ("", 2), ("日本語のテキスト", 10), ([5, 6, 7], 3)],
)
def test_tokens_are_guessed_by_script(text: str | list[int], tokens: int) -> None:
    assert size_of(text).tokens == tokens


def test_a_joined_job_has_its_vectors_in_the_record() -> None:
    sizes = Sizes()
    unknown = sizes.most_joined("model")
    sizes.learn("model", ended(1.0), result(tokens=100, dimensions=384))
    assert sizes.most_joined("model") == MAX_INLINE_BYTES // (384 * 4)
    assert sizes.most_joined("other") == unknown
    sizes.learn("model", ended(1.0), result(tokens=100, dimensions=50_000))
    assert sizes.most_joined("model") == 1


def test_parts_are_as_long_as_a_second_of_the_model() -> None:
    sizes = Sizes()
    least = sizes.part_tokens("model")
    sizes.learn("model", ended(1.0), result(tokens=20_000))
    assert sizes.part_tokens("model") == 20_000
    # Another job had others beside it: that says nothing.
    sizes.learn("model", ended(1.0), result(tokens=1000))
    assert 18_000 < sizes.part_tokens("model") < 20_000
    # No more than this is lost with a worker, however fast it is; and no less is worth a job.
    sizes.learn("model", ended(0.001), result(tokens=20_000))
    assert sizes.part_tokens("model") == 65_536
    for _ in range(500):
        sizes.learn("model", ended(1.0), result(tokens=10))
    assert sizes.part_tokens("model") == least


def result(tokens: int, dimensions: int = 4) -> EmbeddingResult:
    return EmbeddingResult(count=1, dimensions=dimensions, normalized=True, total_tokens=tokens, truncated=0)
