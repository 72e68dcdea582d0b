"""What beam search finds is what transformers finds: `benchmarks/golden_beams.py` asked it on the same tables."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.blips import START, STOP, WORDS, ask, loaded, table_of_words
from worker.contract import Array
from worker.vqa.searching import largest

GOLDENS = Path(__file__).resolve().parents[2] / "support" / "beam_goldens.json"
CASES: list[dict[str, Any]] = json.loads(GOLDENS.read_text("utf-8"))["cases"]
NAMES = ["[PAD]", "[SEP]", "[DEC]", *"abcdefghi"]


def table(seed: int) -> Array:
    made = np.random.default_rng(seed).normal(size=(WORDS, WORDS)) * 1.5
    made[:, 0] = made[:, START] = -20
    return made.astype(np.float32)


@pytest.mark.parametrize("penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("stopping", [False, True, "never"])
def test_beams_find_what_transformers_finds(tmp_path: Path, penalty: float, stopping: Any) -> None:
    cases = [case for case in CASES if (case["length_penalty"], case["early_stopping"]) == (penalty, stopping)]
    assert len(cases) == 12
    for seed, same in groupby(sorted(cases, key=lambda case: case["seed"]), key=lambda case: case["seed"]):
        generation = {"length_penalty": penalty, "early_stopping": stopping}
        model = loaded(table_of_words(tmp_path / str(seed), table(seed), generation))
        for case in same:
            said = ask(model, num_beams=case["num_beams"], max_new_tokens=case["max_new_tokens"])
            words = [NAMES[token] for token in case["ids"] if token not in (START, STOP)]
            assert said["answer"].split() == words, case
            assert said["tokens"] == len(case["ids"]) - 1
            assert said["finish_reason"] == ("stop" if case["ids"][-1] == STOP else "length")
            assert said["search"] == ("greedy" if case["num_beams"] == 1 else "beam")


@pytest.mark.parametrize("count", [1, 2, 10, 299, 300, 301])
@pytest.mark.parametrize("kinds", [1, 2, 7, 1000])
def test_the_largest_are_those_that_a_stable_sort_puts_first(kinds: int, count: int) -> None:
    """Of few kinds of numbers most are equal."""
    numbers = np.random.default_rng(kinds).integers(0, kinds, 300).astype(np.float32)
    numbers[:40] = -np.inf
    np.testing.assert_array_equal(largest(numbers, count), np.argsort(-numbers, kind="stable")[:count])


def test_confidence_is_the_probability_of_the_words(tmp_path: Path) -> None:
    logits = np.full((WORDS, WORDS), -50, np.float32)
    logits[START, [3, 4]] = np.log([3.0, 1.0])
    logits[3, [STOP, 5]] = np.log([4.0, 1.0])
    model = loaded(table_of_words(tmp_path, logits, {}))
    for beams in (1, 2):
        said = ask(model, num_beams=beams)
        assert said["answer"] == "a"
        assert said["confidence"] == pytest.approx(0.75 * 0.8, rel=1e-5)
