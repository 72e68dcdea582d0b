"""Labels on the source grid: the short cut over uniform cells gives what interpolating everything gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from worker.contract import Array
from worker.volumes.decide import ByArgmax, ByThreshold, Decision, Only, logit, sigmoid, softmax
from worker.volumes.grid import AxisMap, Maps
from worker.volumes.labels import LinearPainter, NearestPainter
from worker.volumes.settings import Region, Threshold

SIZES = st.tuples(*[st.integers(1, 9)] * 3)


def maps_between(source: tuple[int, ...], grid: tuple[int, ...], flips: tuple[bool, ...]) -> Maps:
    axes = []
    for n, m, flip in zip(source, grid, flips, strict=True):
        axis = AxisMap(n, m, n / m, (n / m - 1) / 2)
        axes.append(axis.flipped() if flip else axis)
    return axes[0], axes[1], axes[2]


def smooth_scores(channels: int, grid: tuple[int, ...], seed: int) -> Array:
    """Blocks of one winner with edges between them, as masks have, and noise at every other seed."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(channels, *grid))
    return (scores if seed % 2 else ndimage.uniform_filter(scores, (0, 3, 3, 3)) * 5).astype(np.float32)


def fed(painter: LinearPainter | NearestPainter, scores: Array) -> None:
    for k in range(scores.shape[1]):
        painter.feed(scores[:, k])


def interpolated(scores: Array, maps: Maps) -> Array:
    places = np.meshgrid(*(axis.in_grid() for axis in maps), indexing="ij")
    return np.stack([ndimage.map_coordinates(c.astype(np.float64), places, order=1, mode="nearest") for c in scores])


@settings(max_examples=120, deadline=None)
@given(
    source=SIZES,
    grid=SIZES,
    flips=st.tuples(*[st.booleans()] * 3),
    channels=st.integers(2, 4),
    seed=st.integers(0, 999),
)
def test_argmax_equals_full_interpolation(
    source: tuple[int, int, int],
    grid: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
    channels: int,
    seed: int,
) -> None:
    maps, scores = maps_between(source, grid, flips), smooth_scores(channels, grid, seed)
    mask = np.full(source, 99, dtype=np.uint8)
    fed(LinearPainter(mask, maps, ByArgmax()), scores)
    full = interpolated(scores, maps)
    best = np.sort(full, axis=0)
    clear = best[-1] - best[-2] > 1e-5
    assert np.array_equal(mask[clear], full.argmax(axis=0)[clear])
    assert mask.max() < channels


@settings(max_examples=120, deadline=None)
@given(source=SIZES, grid=SIZES, flips=st.tuples(*[st.booleans()] * 3), seed=st.integers(0, 999))
def test_overlapping_regions_equal_full_interpolation(
    source: tuple[int, int, int], grid: tuple[int, int, int], flips: tuple[bool, bool, bool], seed: int
) -> None:
    # As BraTS paints: whole tumour first, then its core over it, then what enhances.
    decide = ByThreshold(0.1, (Region(channel=1, label=2), Region(channel=0, label=1), Region(channel=2, label=4)))
    maps, scores = maps_between(source, grid, flips), smooth_scores(3, grid, seed)
    mask = np.full(source, 99, dtype=np.uint8)
    fed(LinearPainter(mask, maps, decide), scores)
    full = interpolated(scores, maps)
    clear = (np.abs(full - 0.1) > 1e-5).all(axis=0)
    assert np.array_equal(mask[clear], decide(full)[clear])


@settings(max_examples=120, deadline=None)
@given(
    source=SIZES,
    grid=SIZES,
    kept=st.sampled_from([(0,), (1,), (2,), (1, 3)]),
    by_threshold=st.booleans(),
    seed=st.integers(0, 999),
)
def test_kept_labels_equal_full_interpolation_then_dropping(
    source: tuple[int, int, int], grid: tuple[int, int, int], kept: tuple[int, ...], by_threshold: bool, seed: int
) -> None:
    maps, scores = maps_between(source, grid, (False,) * 3), smooth_scores(4, grid, seed)
    regions = tuple(Region(channel=channel, label=channel + 1) for channel in range(4))
    decide: Decision = ByThreshold(0.1, regions) if by_threshold else ByArgmax()
    mask = np.full(source, 99, dtype=np.uint8)
    fed(LinearPainter(mask, maps, Only(decide, kept)), scores)
    full = interpolated(scores, maps)
    best = np.sort(full, axis=0)
    clear = (np.abs(full - 0.1) > 1e-5).all(axis=0) if by_threshold else best[-1] - best[-2] > 1e-5
    labels = decide(full)
    assert np.array_equal(mask[clear], np.where(np.isin(labels, kept), labels, 0)[clear])


def test_a_kept_label_between_two_dropped_ones_is_found() -> None:
    scores = np.array([[0, 0], [1, -1], [0.4, 0.4], [-1, 1]], np.float32).reshape(4, 1, 1, 2)
    mask = np.zeros((1, 1, 8), np.uint8)
    fed(LinearPainter(mask, maps_between((1, 1, 8), (1, 1, 2), (False,) * 3), Only(ByArgmax(), (2,))), scores)
    assert mask.ravel().tolist() == [0, 0, 0, 2, 2, 0, 0, 0]


def test_a_label_of_two_regions_is_refused() -> None:
    regions = [{"channel": 0, "label": 4}, {"channel": 1, "label": 4}]
    with pytest.raises(ValidationError, match="label 4 is painted by several regions"):
        Threshold.model_validate({"method": "threshold", "regions": regions})


@settings(max_examples=60, deadline=None)
@given(source=SIZES, grid=SIZES, flips=st.tuples(*[st.booleans()] * 3), seed=st.integers(0, 99))
def test_nearest_takes_the_label_of_the_nearest_grid_voxel(
    source: tuple[int, int, int], grid: tuple[int, int, int], flips: tuple[bool, bool, bool], seed: int
) -> None:
    maps, scores = maps_between(source, grid, flips), smooth_scores(3, grid, seed)
    mask = np.full(source, 99, dtype=np.uint8)
    fed(NearestPainter(mask, maps, ByArgmax()), scores)
    nearest = [np.clip(np.floor(axis.in_grid() + 0.5), 0, axis.grid - 1).astype(int) for axis in maps]
    assert np.array_equal(mask, scores.argmax(axis=0)[np.ix_(*nearest)])


def test_uniform_cells_are_not_interpolated() -> None:
    seen: list[int] = []

    class Counted(ByArgmax):
        def __call__(self, scores: Array) -> Array:
            if scores.ndim == 2:
                seen.append(scores.shape[1])
            return super().__call__(scores)

    scores = np.zeros((2, 8, 8, 8), np.float32)
    scores[1, 4:] = 1
    scores[0] = 0.5
    mask = np.zeros((32, 32, 32), np.uint8)
    fed(LinearPainter(mask, maps_between((32,) * 3, (8,) * 3, (False,) * 3), Counted()), scores)
    assert mask[:16].max() == 0
    assert mask[16:].min() == 1
    assert 0 < sum(seen) <= 4 * 32 * 32, "only the four planes between the labels"


def test_argmax_gives_ties_to_the_first_channel() -> None:
    assert ByArgmax()(np.ones((3, 2, 2), np.float32)).max() == 0


def test_only_turns_other_labels_to_background() -> None:
    scores = np.eye(4, dtype=np.float32)
    decide: Decision = Only(ByArgmax(), (2,))
    assert decide(scores).tolist() == [0, 0, 2, 0]


def test_activations_agree_with_their_definitions() -> None:
    x = np.array([-800.0, -2.0, 0.0, 2.0, 800.0], dtype=np.float32)
    assert sigmoid(x) == pytest.approx([0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1])
    assert logit(0.5) == 0
    assert sigmoid(np.array([logit(0.9)])) == pytest.approx(0.9)
    scores = np.array([[1000.0, 0.0], [1000.0, np.log(3.0)]], dtype=np.float32)
    assert softmax(scores) == pytest.approx(np.array([[0.5, 0.25], [0.5, 0.75]]))
