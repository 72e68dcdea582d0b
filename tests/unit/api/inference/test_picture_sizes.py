"""How many pictures share a job, by what the jobs of their kind took."""

import pytest

from api.inference.picture_sizes import PictureSizes
from tests.support.ended_job import ended

KIND = "model/1"


@pytest.mark.parametrize(("infer_s", "pictures", "most"), [(0.01, 1, 16), (0.1, 1, 5), (0.4, 4, 5), (0.3, 1, 1)])
def test_a_job_has_as_many_pictures_as_half_a_second_has(infer_s: float, pictures: int, most: int) -> None:
    sizes = PictureSizes()
    assert sizes.most(KIND) == 4
    sizes.learn(KIND, ended(infer_s), pictures)
    assert sizes.most(KIND) == most
    assert sizes.most("other/1") == 4


def test_the_fastest_counts_until_it_was_long_ago() -> None:
    sizes = PictureSizes()
    for infer_s in (0.3, 0.1, 0.3):
        sizes.learn(KIND, ended(infer_s), 1)
    assert sizes.most(KIND) == 4
    for _ in range(100):
        sizes.learn(KIND, ended(0.3), 1)
    assert sizes.most(KIND) == 1


def test_answers_that_did_not_fit_make_jobs_smaller_for_a_while() -> None:
    sizes = PictureSizes()
    sizes.learn(KIND, ended(0.01), 1)
    sizes.learn_crowded(KIND, 16)
    assert sizes.most(KIND) == 8
    sizes.learn_crowded(KIND, 1)
    assert sizes.most(KIND) == 1
    # For as long as a front door lives.
    for _ in range(40_000):
        sizes.learn(KIND, ended(0.01), 1)
    assert sizes.most(KIND) == 16
