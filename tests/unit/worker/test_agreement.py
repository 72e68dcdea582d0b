"""How far outputs lie apart is measured against their size, and what may differ goes by their type."""

import numpy as np
import pytest

from worker.engine.agreement import disagreement, worst


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [1.0, -3.0], 0.25),
        ([0.0, 0.0], [0.0, 1e-9], float("inf")),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.inf], [1.0, np.inf], 0.0),
        ([1.0, 2.0], [1.0, np.nan], float("inf")),
        ([np.inf, 2.0], [-np.inf, 2.0], float("inf")),
        ([1.0], [1.0, 2.0], float("inf")),
    ],
)
def test_disagreement_of_floats_is_relative_to_the_largest(
    before: list[float], after: list[float], expected: float
) -> None:
    assert disagreement(np.array(before, np.float32), np.array(after, np.float32)) == expected


def test_disagreement_of_labels_is_the_share_that_differs() -> None:
    labels = np.arange(8)
    assert disagreement(labels, np.where(labels == 3, 0, labels)) == 1 / 8
    assert disagreement(np.zeros((0, 4)), np.zeros((0, 4))) == 0.0


def test_what_may_differ_goes_by_the_type_and_by_what_was_asked_for() -> None:
    expected, found = {"y": np.ones(4, np.float32)}, {"y": np.full(4, 1.01, np.float32)}
    apart, fault = worst(expected, found)
    assert apart == pytest.approx(0.01, rel=1e-3)
    assert fault == "its output 'y' differs by 0.01, 0.005 is allowed for float32"
    assert worst(expected, found, half=True)[1] is None
