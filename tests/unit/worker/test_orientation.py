"""Which way the model sees a volume."""

from itertools import permutations, product

import numpy as np
import pytest

from tests.support.volumes import direction_from
from worker.volumes.orient import is_axes, orient, orientation_code

CODES = ["".join(code) for axes in permutations(("LR", "PA", "SI")) for code in product(*axes)]


def test_there_are_forty_eight_orientations() -> None:
    assert len(set(CODES)) == 48
    assert all(is_axes(code) for code in CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_code_survives_an_oblique_turn(code: str) -> None:
    assert orientation_code(direction_from(code)) == code
    assert orientation_code(direction_from(code, (12, -9, 14))) == code


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("axes", ["RAS", "SPL", "AIR"])
def test_the_tensor_points_where_the_model_wants(code: str, axes: str) -> None:
    # Where each index axis of the array [z, y, x] points to, carried along by the flips and the transposition.
    letters = list(reversed(code))
    opposite = dict(zip("LRPASI", "RLAPIS", strict=True))
    orientation = orient(direction_from(code), axes)
    flipped = [opposite[a] if flip else a for a, flip in zip(letters, orientation.flips, strict=True)]
    assert "".join(flipped[axis] for axis in orientation.to_tensor) == axes


@pytest.mark.parametrize("axes", ["zyx", "xyz", "yxz"])
def test_the_files_own_order_flips_nothing(axes: str) -> None:
    orientation = orient(direction_from("RAI"), axes)
    assert orientation.flips == (False, False, False)
    assert "".join("zyx"[axis] for axis in orientation.to_tensor) == axes


def test_per_axis_values_go_back_and_forth() -> None:
    orientation = orient(direction_from("ASR"), "RAS")
    values = (10, 20, 30)
    assert orientation.per_tensor_axis(orientation.per_array_axis(values)) == values
    array = np.zeros((2, 3, 4))
    shape = array.transpose(orientation.to_tensor).shape
    assert orientation.per_array_axis((shape[0], shape[1], shape[2])) == array.shape


@pytest.mark.parametrize("axes", ["RAR", "ras", "xyy", "RA", "", "LRS", "XYZ"])
def test_other_words_are_no_axes(axes: str) -> None:
    assert not is_axes(axes)
