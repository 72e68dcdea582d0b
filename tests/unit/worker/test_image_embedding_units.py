"""A vector without a direction is no answer, and what a job's answers take is counted whatever they are."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fleet.errors import ModelError
from tests.support.image_embedders import loaded, unpacked
from tests.support.ort_model import RecordedProgress
from worker.contract import Model, Picture
from worker.embedding.settings import ImageEmbeddingParams
from worker.embedding.units import units
from worker.pictures.items import Item, ItemAnswers, Pictures
from worker.tasks.image_embedding import TASK

PIXELS = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)


def times(root: Path, factor: float) -> Model:
    """CLIP's towers, of which that of pictures gives its vectors so many times as long."""
    folder = unpacked("clip-towers", root)
    for path in folder.glob("*/*.onnx"):
        made = onnx.load(path)
        if "pixel_values" in [value.name for value in made.graph.input]:
            for node in made.graph.node:
                node.output[:] = ["plain" if name == "image_embeds" else name for name in node.output]
                node.input[:] = ["plain" if name == "image_embeds" else name for name in node.input]
            made.graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), "factor"))
            made.graph.node.append(helper.make_node("Mul", ["plain", "factor"], ["image_embeds"]))
            onnx.save(made, path)
    return loaded(folder)


def run(model: Model, pictures: int = 1, progress: Any = None, **params: Any) -> ItemAnswers:
    items = [Item(f"{number}.png", lambda admit, check: Picture(PIXELS)) for number in range(pictures)]
    media = Pictures(items, many=pictures > 1)
    return TASK.run(media, ImageEmbeddingParams(**params), model, progress or RecordedProgress())


@pytest.mark.parametrize("factor", [0.0, 1e25], ids=["zeros", "too long"])
@pytest.mark.parametrize(
    "params", [{}, {"labels": ["cat", "dog"], "normalize": False}, {"augment": "flip"}], ids=["plain", "labels", "flip"]
)
def test_a_vector_without_a_direction_is_no_answer(tmp_path: Path, factor: float, params: dict[str, Any]) -> None:
    model = times(tmp_path, factor)
    with pytest.raises(ModelError, match="no direction") as caught:
        run(model, **params)
    assert caught.value.code == "result-not-finite"
    outcome = run(model, 2, **params)
    assert [answer.error.code for answer in outcome.answers if answer.error] == ["result-not-finite"] * 2


def test_a_vector_of_zeros_may_be_looked_at(tmp_path: Path) -> None:
    (answer,) = run(times(tmp_path, 0.0), normalize=False).answers
    assert answer.result is not None
    assert set(answer.result["embedding"]) == {0.0}
    assert answer.result["normalized"] is False


def test_units_are_of_length_one_however_short_a_vector_is() -> None:
    made = units(np.array([[3e-6, 4e-6], [0.6, 0.8]], np.float32))
    np.testing.assert_allclose(made, [[0.6, 0.8], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("vectors", ["json", "npy", "none"])
def test_scores_of_many_labels_are_counted_beside_vectors(tmp_path: Path, vectors: str) -> None:
    progress = RecordedProgress(folder=tmp_path)
    labels = [f"label {number}" for number in range(1000)]
    run(loaded(unpacked("clip-towers", tmp_path)), 40, progress, labels=labels, vectors=vectors)
    # Each score is an object of three fields: some 300 bytes.
    assert max(peak for peak, _ in progress.asked) > 40 * 1000 * 200
