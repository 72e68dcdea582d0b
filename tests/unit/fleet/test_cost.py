"""The cost model: from the card to what was measured, and from one size or device to another."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.contracts import Lane, Pool
from fleet.cost import Basis, Belief, CostModel, Key, prior_s, size_bucket, usual_s
from tests.support.front_door import card

SECONDS = st.floats(1e-3, 1e4)


def known(
    seconds: float, *, bucket: int = 20, device: str = "cpu", jobs: float = 50.0, spread: float = 0.01
) -> CostModel:
    return CostModel({Key("organs", 1, bucket, device): Belief(jobs, math.log(seconds), spread)})


@pytest.mark.parametrize(("size", "bucket"), [(-1, 0), (0, 0), (1, 1), (2, 2), (3, 2), (1023, 10), (1024, 11)])
def test_a_bucket_more_is_twice_the_bytes(size: int, bucket: int) -> None:
    assert size_bucket(size) == bucket


def test_the_card_is_asked_first_and_then_what_is_usual() -> None:
    said = card(lane=Lane.BULK, expected_s={Pool.GPU: 7.0})
    assert prior_s(said, Pool.GPU) == 7.0
    assert prior_s(said, Pool.CPU) == usual_s(Lane.BULK, Pool.CPU)
    estimate = CostModel({}).estimate(said, 1_000, Pool.GPU)
    assert estimate.basis is Basis.CARD
    assert estimate.low_s < 7.0 < estimate.high_s


def test_what_was_measured_outweighs_the_card() -> None:
    estimate = known(2.0).of("organs", 1, 20, Pool.CPU, prior_s=100.0)
    assert estimate.basis is Basis.MEASURED
    assert estimate.mean_s == pytest.approx(2.0, rel=0.02)


def test_a_single_job_does_not_outweigh_the_card() -> None:
    estimate = known(1.0, jobs=1.0).of("organs", 1, 20, Pool.CPU, prior_s=100.0)
    assert 1.0 < estimate.mean_s < 100.0


def test_a_neighbouring_size_is_scaled() -> None:
    model = known(10.0)
    larger, smaller = (model.of("organs", 1, bucket, Pool.CPU, prior_s=1.0) for bucket in (21, 19))
    assert larger.basis is smaller.basis is Basis.SIMILAR
    assert smaller.mean_s < 10.0 < larger.mean_s < 20.5


def test_the_other_kind_of_device_is_scaled_by_what_the_card_says_of_both() -> None:
    # The card says 30 s and 3 s, the GPU takes 0.05 s: a CPU is not taken to need 30 s.
    model = known(0.05, device="H200")
    estimate = model.of("organs", 1, 20, Pool.CPU, prior_s=30.0, other_prior_s=3.0)
    assert estimate.basis is Basis.CARD
    assert 0.5 < estimate.mean_s < 0.8
    back = known(0.5).of("organs", 1, 20, Pool.GPU, ["H200"], prior_s=3.0, other_prior_s=30.0)
    assert 0.05 < back.mean_s < 0.08


def test_of_another_kind_of_gpu_nothing_is_concluded_for_this_one() -> None:
    estimate = known(0.05, device="H200").of("organs", 1, 20, Pool.GPU, ["T4"], prior_s=3.0, other_prior_s=30.0)
    assert estimate.mean_s > 3.0


def test_of_a_mixed_pool_the_least_certain_kind_is_the_basis() -> None:
    estimate = known(1.0, device="H200").of("organs", 1, 20, Pool.GPU, ["H200", "T4"], prior_s=3.0)
    assert estimate.basis is Basis.CARD
    assert estimate.low_s < 1.0 < 3.0 < estimate.high_s


@given(SECONDS, SECONDS, SECONDS, st.integers(0, 60), st.integers(0, 60), st.floats(1, 1e6), st.floats(0, 9))
def test_an_estimate_is_a_finite_range_around_its_mean(
    measured: float, said: float, other: float, bucket: int, asked: int, jobs: float, spread: float
) -> None:
    for device in ("cpu", "H200"):
        model = known(measured, bucket=bucket, device=device, jobs=jobs, spread=spread)
        estimate = model.of("organs", 1, asked, Pool.CPU, prior_s=said, other_prior_s=other)
        assert 0 < estimate.low_s <= estimate.mean_s <= estimate.high_s < math.inf


@given(st.lists(SECONDS, min_size=1, max_size=20), st.lists(SECONDS, min_size=1, max_size=20))
def test_the_order_of_the_devices_named_changes_nothing(first: list[float], second: list[float]) -> None:
    beliefs = {
        Key("organs", 1, 20, device): Belief(float(len(values)), sum(map(math.log, values)) / len(values), 0.1)
        for device, values in (("A100", first), ("T4", second))
    }
    one, other = (
        CostModel(beliefs).of("organs", 1, 20, Pool.GPU, kinds, prior_s=1.0)
        for kinds in (("A100", "T4"), ("T4", "A100"))
    )
    assert one == other
