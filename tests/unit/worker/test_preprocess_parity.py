"""Pictures become numbers as their libraries make them: see benchmarks/golden_preprocess.py, which asked these."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.pictures.preprocess import Preprocess
from worker.pictures.published import Published, of_timm, of_transformers, of_ultralytics

ROOT = Path(__file__).resolve().parents[3]
GOLDENS = json.loads((ROOT / "tests" / "support" / "preprocess_goldens.json").read_text())


def published(name: str) -> Published:
    if name in GOLDENS["configs"]:
        return of_transformers(GOLDENS["configs"][name], "preprocessor_config.json")
    return of_timm(GOLDENS["timm"][name], "config.json") if name in GOLDENS["timm"] else of_ultralytics((224, 224))


@pytest.mark.parametrize("case", GOLDENS["cases"], ids=lambda case: f"{case['name']}-{case['box'][2]}x{case['box'][3]}")
def test_the_library_feeds_the_same_numbers(case: dict[str, Any]) -> None:
    picture = (
        Image.open(ROOT / "models" / "efficientnet-lite0" / "example" / "cat.jpg").convert("RGB").crop(case["box"])
    )
    numbers = Preprocess(published(case["name"]).recipe)(np.asarray(picture))
    assert list(numbers.shape) == case["shape"]
    found = [float(numbers[tuple(place)]) for place in case["at"]]
    np.testing.assert_allclose(found, case["values"], rtol=0, atol=1e-6)
    assert float(numbers.mean(dtype=np.float64)) == pytest.approx(case["mean"], abs=1e-6)
