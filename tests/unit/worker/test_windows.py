"""Where windows begin and how they are blended."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from worker.volumes.blend import BLENDS, Slab
from worker.volumes.windows import even_starts, fixed_starts, lay_out, padding, window_at

OVERLAPS = st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.7, 0.75, 0.8, 0.9])


@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.75])
def test_even_starts_are_those_of_nnunet(overlap: float) -> None:
    window, step = 96, 1 - overlap
    for n in range(96, 400):
        longest = window * step
        steps = math.ceil((n - window) / longest) + 1
        expected = np.round(np.linspace(0, n - window, steps)).astype(int).tolist()
        assert even_starts(n, window, overlap) == expected, n


@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.75])
def test_fixed_starts_are_those_of_monai(overlap: float) -> None:
    window = 96
    for n in range(96, 400):
        interval = window if n == window else max(int(window * (1 - overlap)), 1)
        starts = []
        for k in range(n):
            begin = k * interval
            starts.append(begin - max(begin + window - n, 0))
            if begin + window >= n:
                break
        assert fixed_starts(n, window, overlap) == starts, n


def test_the_two_rules_differ_as_the_tools_do() -> None:
    assert even_starts(200, 96, 0.5) == [0, 35, 69, 104]
    assert fixed_starts(200, 96, 0.5) == [0, 48, 96, 104]


@given(n=st.integers(1, 300), window=st.integers(1, 64), overlap=OVERLAPS, rule=st.sampled_from(["even", "fixed"]))
def test_windows_cover_the_axis_and_stay_inside(n: int, window: int, overlap: float, rule: str) -> None:
    n = max(n, window)
    starts = lay_out((n, n, n), (window, window, window), overlap, rule).starts[0]
    assert starts[0] == 0
    assert starts[-1] == n - window
    assert all(0 < b - a <= window for a, b in pairwise(starts))


def test_padding_puts_the_odd_voxel_after() -> None:
    assert padding((5, 8, 10), (8, 8, 8)) == ((1, 2), (0, 0), (0, 0))


def test_gaussian_of_nnunet_is_the_filtered_delta() -> None:
    delta = np.zeros((16, 12, 9))
    delta[8, 6, 4] = 1
    expected = gaussian_filter(delta, (2, 1.5, 9 / 8), mode="constant")
    weights = BLENDS["gaussian_nnunet"]((16, 12, 9))
    assert weights.max() == pytest.approx(10)
    assert weights == pytest.approx(expected / expected.max() * 10, abs=1e-5)
    assert weights.min() > 0


def test_gaussian_of_monai_is_centred_and_clamped() -> None:
    weights = BLENDS["gaussian_monai"]((16, 16, 16))
    assert weights[7, 7, 7] == pytest.approx(math.exp(-3 * 0.5**2 / (2 * 2**2)))
    assert np.array_equal(weights, weights[::-1, ::-1, ::-1])
    assert weights.min() == pytest.approx(1e-3)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 14)] * 3),
    window=st.tuples(*[st.integers(1, 6)] * 3),
    overlap=OVERLAPS,
    rule=st.sampled_from(["even", "fixed"]),
    blend=st.sampled_from(sorted(BLENDS)),
    seed=st.integers(0, 99),
)
def test_blending_equals_the_weighted_mean_over_all_windows(
    size: tuple[int, int, int],
    window: tuple[int, int, int],
    overlap: float,
    rule: str,
    blend: str,
    seed: int,
) -> None:
    grid = tuple(max(n, w) for n, w in zip(size, window, strict=True))
    layout = lay_out((grid[0], grid[1], grid[2]), window, overlap, rule)
    weights = BLENDS[blend](window)
    random = np.random.default_rng(seed)
    slab = Slab(layout, 2, weights)
    sums, totals, taken = np.zeros((2, *grid)), np.zeros(grid), []
    for layer in layout.layers():
        for start in layer.windows:
            scores = random.normal(size=(2, *window)).astype(np.float32)
            slab.add(start, scores)
            for channel in range(2):
                window_at(sums[channel], start, window)[...] += weights * scores[channel]
            window_at(totals, start, window)[...] += weights
        taken.extend(plane.copy() for plane in slab.take(layer.finished))
    assert np.stack(taken, axis=1) == pytest.approx(sums / totals, abs=1e-4)


def test_weights_of_a_constant_field_cancel() -> None:
    layout = lay_out((20, 9, 9), (8, 8, 8), 0.5, "even")
    slab = Slab(layout, 1, BLENDS["gaussian_nnunet"]((8, 8, 8)))
    planes = []
    for layer in layout.layers():
        for start in layer.windows:
            slab.add(start, np.ones((1, 8, 8, 8), np.float32))
        planes.extend(slab.take(layer.finished))
    assert len(planes) == 20
    assert np.stack(planes) == pytest.approx(1.0, abs=1e-6)
