"""A segmentation asks for its memory before it takes any, asks for enough, and gives the same mask from disk."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.ort_model import FunctionModel, RecordedProgress
from tests.support.volumes import volume_of
from worker.contract import Array, Geometry, Mask, Volume
from worker.memory.room import ArrayRoom
from worker.tasks.segmentation import TASK

WINDOWS = {"mode": "windows", "shape": [24, 20, 16], "overlap": 0.5}
TURNED = (0.0, 0.0, -1.0, 0.96, 0.28, 0.0, -0.28, 0.96, 0.0)
RECIPES: dict[str, dict[str, Any]] = {
    "source grid": {"grid": {"kind": "source"}},
    "spacing": {"grid": {"kind": "spacing", "spacing_mm": [1.5, 1.5, 1.5]}, "intensity": {"method": "zscore"}},
    "padded": {"grid": {"kind": "spacing", "spacing_mm": [9, 9, 9]}, "pad": {"mode": "edge"}},
    "padded with a value": {"grid": {"kind": "spacing", "spacing_mm": [9, 9, 9]}, "pad": {"value": -3.5}},
    "whole": {"grid": {"kind": "shape", "shape": [40, 32, 24]}, "run": {"mode": "whole", "multiple_of": 16}},
    "mirrored": {"grid": {"kind": "source"}, "mirror_axes": [0, 2], "intensity": {"method": "percentile"}},
    "nearest": {"grid": {"kind": "spacing", "spacing_mm": [2, 2, 2]}, "upsample": "labels"},
    "probabilities": {"grid": {"kind": "spacing", "spacing_mm": [2, 2, 2]}, "upsample": "probabilities"},
    "tidied": {"grid": {"kind": "source"}, "largest_component": True, "fill_holes": True},
}


def recipe(**changes: Any) -> Any:
    usual = {"run": WINDOWS, "scores": "logits", "decide": {"method": "argmax"}}
    return TASK.Settings.model_validate(usual | changes)


def five_classes(image: Array) -> Array:
    """Local enough that windows blend, uneven enough that every class appears."""
    return np.concatenate([np.sin(0.05 * (k + 1) * image + k) for k in range(5)], axis=1).astype(np.float32)


def model_of(settings: Any, classes: int = 5) -> FunctionModel:
    function = five_classes if classes == 5 else lambda image: np.repeat(image, classes, axis=1)
    return FunctionModel(function, settings, {k: str(k) for k in range(1, classes)})


def smooth(shape: tuple[int, int, int], dtype: type = np.int16) -> Volume:
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    values = 60 * np.sin(z / 7) * np.cos(y / 9) + x + np.random.default_rng(0).normal(0, 4, shape)
    volume = volume_of(values.astype(dtype))
    geometry = volume.geometry
    return Volume(volume.array, Geometry(geometry.size, (1.0, 1.2, 1.4), geometry.origin, TURNED), volume.about)


def segmented(settings: Any, room: ArrayRoom, volume: Volume, **params: Any) -> Mask:
    progress = RecordedProgress(room=room)
    mask = TASK.run(volume, TASK.Params(**params), model_of(settings), progress)
    assert len(progress.asked) == 1
    return mask


@pytest.mark.parametrize("name", RECIPES)
def test_arrays_on_disk_give_the_same_mask_voxel_by_voxel(name: str, tmp_path: Path) -> None:
    settings, volume = recipe(**RECIPES[name]), smooth((44, 40, 36))
    preview = name == "source grid"
    usual = segmented(settings, ArrayRoom(), volume, preview=preview)
    lean = segmented(settings, ArrayRoom(tmp_path), volume, preview=preview)
    assert usual.array.max() > 1
    assert np.array_equal(lean.array, usual.array)
    assert lean.statistics == usual.statistics
    assert lean.preview_png == usual.preview_png
    assert lean.facts == usual.facts | {"arrays_on_disk": True}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, np.int16) for name in RECIPES), ("mirrored", np.float64), ("padded", np.uint8)]
)
def test_what_is_asked_for_is_enough(name: str, dtype: type) -> None:
    large = {"run": {"mode": "windows", "shape": [64, 64, 64], "overlap": 0.25}}
    settings, volume = recipe(**large | RECIPES[name]), smooth((80, 128, 128), dtype)
    progress = RecordedProgress()
    model = model_of(settings, 6)
    tracemalloc.start()
    try:
        TASK.run(volume, TASK.Params(), model, progress)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    ((asked, lean),) = progress.asked
    # The model's own array is not the task's.
    own = 6 * 4 * int(np.prod(model.fed[0]))
    assert peak - own <= asked
    assert lean is not None
    assert lean < asked


@pytest.mark.parametrize("classes", [5, 40])
def test_it_asks_before_it_allocates(classes: int) -> None:
    settings, volume = recipe(**RECIPES["source grid"]), smooth((96, 128, 128))

    class Refused(RecordedProgress):
        def admit(self, what: str, peak_bytes: int, **more: Any) -> ArrayRoom:
            self.held = tracemalloc.get_traced_memory()[1]
            raise InterruptedError(what)

    progress = Refused()
    tracemalloc.start()
    try:
        with pytest.raises(InterruptedError) as caught:
            TASK.run(volume, TASK.Params(), model_of(settings, classes), progress)
    finally:
        tracemalloc.stop()
    assert progress.held < 2 * 1024**2
    assert str(caught.value) == f"segmenting 128 × 128 × 96 voxels on a grid of 96 × 128 × 128 with {classes} channels"


def test_a_guess_is_weighed_before_it_refuses() -> None:
    settings, volume = recipe(**RECIPES["source grid"]), smooth((30, 30, 30))
    asked: list[bool] = []

    class Unknown(FunctionModel):
        def run_bytes(self, shapes: Any, weigh_with: Any = None) -> int:
            asked.append(weigh_with is not None)
            assert shapes == {"image": (1, 1, 24, 20, 16)}
            return 2**20 if weigh_with is not None else 2**40

    model = Unknown(five_classes, settings, {k: str(k) for k in range(1, 5)})
    TASK.run(volume, TASK.Params(preview=False), model, RecordedProgress(memory_bytes=2**41))
    assert asked == [False]
    progress = RecordedProgress(memory_bytes=2**30)
    TASK.run(volume, TASK.Params(preview=False), model, progress)
    assert asked == [False, False, True]
    assert progress.asked[0][0] < 2**30


def test_interpolating_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, volume = recipe(**RECIPES["spacing"]), smooth((40, 40, 40))
    usual = segmented(settings, ArrayRoom(), volume, preview=False).array
    monkeypatch.setattr("worker.volumes.labels.INTERPOLATED", 64)
    assert np.array_equal(segmented(settings, ArrayRoom(), volume, preview=False).array, usual)
