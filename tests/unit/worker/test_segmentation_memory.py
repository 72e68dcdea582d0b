"""What a job holds while it streams: never three copies of the volume as float."""

import tracemalloc

import numpy as np
import pytest

from tests.support.ort_model import FunctionModel, RecordedProgress
from tests.support.volumes import volume_of
from worker.contract import Array
from worker.tasks.segmentation import TASK


def five_classes(image: Array) -> Array:
    return np.concatenate([image + k for k in range(5)], axis=1)


@pytest.mark.parametrize("grid", [{"kind": "source"}, {"kind": "spacing", "spacing_mm": [1.5, 1.5, 1.5]}])
def test_memory_stays_below_three_float_volumes(grid: dict[str, object]) -> None:
    volume = volume_of(np.random.default_rng(0).integers(-1000, 1000, (160, 128, 128)).astype(np.int16))
    float_bytes = volume.array.size * 4
    settings = TASK.Settings.model_validate(
        {
            "grid": grid,
            "intensity": {"method": "zscore"},
            "run": {"mode": "windows", "shape": [24, 24, 24], "overlap": 0.25},
            "scores": "logits",
            "decide": {"method": "argmax"},
            "fill_holes": True,
        }
    )
    model = FunctionModel(five_classes, settings, {k: str(k) for k in range(1, 5)})
    tracemalloc.start()
    try:
        TASK.run(volume, TASK.Params(), model, RecordedProgress())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * float_bytes
