"""A picture that is made small where it is decoded is, to the last bit, the one that would be made small later."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.blips import SHIPPED
from tests.support.blips import loaded as blip
from tests.support.classifiers import SIDE as FED
from tests.support.classifiers import colours, make_model
from tests.support.classifiers import loaded as classifier
from tests.support.image_embedders import loaded, unpacked
from tests.support.pictures import encoded, with_orientation
from worker.classification.settings import ClassificationParams
from worker.contract import Array, Model, Picture
from worker.embedding.embedder import ImageEmbedder
from worker.embedding.settings import ImageEmbeddingParams
from worker.media.picture_decode import decode_picture
from worker.media.picture_limits import PictureLimits
from worker.pictures.items import Admit, Check, Item, PictureParams, Pictures, Read, Stages, each
from worker.pictures.preprocess import Preprocess
from worker.pictures.recipe import Recipe
from worker.pictures.shrink import Shrink, Way, resized_to
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks.image_classification import TASK as CLASSIFICATION
from worker.tasks.image_embedding import TASK as EMBEDDING
from worker.tasks.visual_qa import TASK as VISUAL_QA
from worker.vqa.answerer import Answerer
from worker.vqa.settings import VqaParams

LIMITS = PictureLimits()
STRETCH = Recipe(resize="stretch", size=(24, 31), kernel="bilinear")
SHORTEST = Recipe(resize="shortest-edge", size=37, kernel="bicubic", crop=32)
RECIPES = {"stretch": STRETCH, "shortest-edge": SHORTEST}
KERNELS = ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
SIDE = st.integers(1, 20_000)


def grain(width: int, height: int, channels: int = 3) -> Array:
    """No two places alike, so that none can be taken for another."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(width * height).integers(0, 256, shape, np.uint8)


def palette() -> bytes:
    image = Image.fromarray(grain(90, 70)).quantize(64)
    return encoded(image, "PNG", transparency=3)


def deep() -> bytes:
    return encoded(Image.fromarray(np.random.default_rng(1).integers(0, 65536, (70, 90), np.uint16)), "PNG")


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(grain(300, 200), "JPEG"),
    **{f"turned-{turn}": partial(with_orientation, grain(90, 70), turn) for turn in (2, 3, 5, 6, 8)},
    "tiff-on-its-side": lambda: encoded(grain(90, 70), "TIFF", tiffinfo={274: 6}),
    "rgba": lambda: encoded(grain(90, 70, 4), "PNG"),
    "palette": palette,
    "grey": lambda: encoded(grain(90, 70, 1), "JPEG"),
    "bilevel": lambda: encoded(Image.fromarray(grain(90, 70, 1)).convert("1"), "PNG"),
    "deep-grey": deep,
    "cmyk": lambda: encoded(Image.fromarray(grain(90, 70, 4), "CMYK"), "JPEG"),
    "webp": lambda: encoded(grain(90, 70), "WEBP"),
    "gif": lambda: encoded(Image.fromarray(grain(90, 70)).quantize(64), "GIF"),
    "pixel": lambda: encoded(grain(1, 1), "PNG"),
    "small": lambda: encoded(grain(9, 7), "PNG"),
    "long": lambda: encoded(grain(2000, 20), "PNG"),
    "long-and-large": lambda: encoded(grain(4000, 40), "PNG"),
    "high": lambda: encoded(grain(40, 4000), "PNG"),
    "as-fed": lambda: encoded(grain(31, 24), "PNG"),
}


@given(height=SIDE, width=SIDE, size=st.integers(1, 8192), other=st.integers(1, 8192))
def test_what_was_resized_stays_as_it_is(height: int, width: int, size: int, other: int) -> None:
    rules: list[tuple[Way, int | tuple[int, int]]]
    rules = [("shortest-edge", size), ("stretch", size), ("stretch", (size, other))]
    for way, wanted in rules:
        once = resized_to(way, wanted, (height, width))
        assert resized_to(way, wanted, once) == once


def test_what_was_resized_stays_as_it_is_at_every_small_size() -> None:
    for height, width, size in product(range(1, 40), range(1, 40), range(1, 40)):
        once = resized_to("shortest-edge", size, (height, width))
        assert min(once) == size
        assert resized_to("shortest-edge", size, once) == once


@pytest.mark.parametrize("alpha", ["white", "drop"])
@pytest.mark.parametrize("rule", RECIPES)
@pytest.mark.parametrize("file", FILES)
def test_the_pixels_are_the_same_ones(file: str, rule: str, alpha: Any) -> None:
    preprocess, content = Preprocess(RECIPES[rule]), FILES[file]()
    whole = decode_picture(content, LIMITS, alpha)
    small = decode_picture(content, LIMITS, alpha, shrink=preprocess.shrink)
    np.testing.assert_array_equal(preprocess.resized(small.pixels), preprocess.resized(whole.pixels))
    np.testing.assert_array_equal(preprocess(small.pixels), preprocess(whole.pixels))
    assert (small.size, small.about) == (whole.size, whole.about)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rule", RECIPES)
def test_each_filter_makes_the_same_pixels(rule: str, kernel: str) -> None:
    preprocess = Preprocess(RECIPES[rule].model_copy(update={"kernel": kernel}))
    content = encoded(grain(300, 200), "PNG")
    small = decode_picture(content, LIMITS, shrink=preprocess.shrink).pixels
    np.testing.assert_array_equal(small, preprocess.resized(grain(300, 200)))
    # Nothing is left to be done, and nothing is.
    assert preprocess.resized(small) is small


@pytest.mark.parametrize(("width", "height"), [(9, 7), (300, 7), (9, 200), (31, 24), (1, 1)])
@pytest.mark.parametrize("rule", RECIPES)
def test_a_picture_that_would_grow_is_handed_over_as_it_is(rule: str, width: int, height: int) -> None:
    shrink = Preprocess(RECIPES[rule]).shrink
    np.testing.assert_array_equal(
        decode_picture(encoded(grain(width, height), "PNG"), LIMITS, shrink=shrink).pixels, grain(width, height)
    )


@pytest.mark.parametrize("recipe", [Recipe(resize="none"), Recipe(kernel="opencv-linear")])
def test_only_what_pillow_resizes_can_be_resized_by_whoever_decodes(recipe: Recipe) -> None:
    assert Preprocess(recipe).shrink is None


@pytest.mark.parametrize("rule", RECIPES)
def test_a_shrink_means_the_same_when_it_was_sent(rule: str) -> None:
    shrink = Preprocess(RECIPES[rule]).shrink
    assert shrink is not None
    sent = Shrink(**json.loads(json.dumps(asdict(shrink))))
    for size in permutations((1, 24, 31, 37, 500, 4001), 2):
        assert sent.size_of(size) == shrink.size_of(size)


def of_file(content: bytes, asked: list[Shrink | None]) -> Item:
    """Notes how it was read."""

    def reading(shrink: Shrink | None) -> Read:
        def read(admit: Admit, check: Check) -> Picture:
            asked.append(shrink)
            return Picture(decode_picture(content, LIMITS, shrink=shrink).pixels)

        return read

    return Item("a", reading(None), reading)


@pytest.mark.parametrize("many", [False, True])
def test_quality_is_that_of_the_whole_picture(many: bool) -> None:
    shrink, asked = Preprocess(SHORTEST).shrink, list[Shrink | None]()
    pictures = Pictures([of_file(FILES["jpeg"](), asked)], many)

    def one(picture: Picture, stages: Stages) -> dict[str, Any]:
        return {"seen": picture.size}

    def answers(params: PictureParams) -> dict[str, Any]:
        model = cast(Model, SimpleNamespace(at_once=1))
        (answer,) = each(pictures, params, model, JobProgress(StopToken()), one, shrink=shrink).answers
        assert answer.result is not None
        return answer.result

    assert answers(PictureParams()) == {"seen": (55, 37)}
    whole = answers(PictureParams(quality=True))
    assert (whole["seen"], whole["quality"]["width"], whole["quality"]["height"]) == ((300, 200), 300, 200)
    assert asked == [shrink, None]


def told(task: Any, params: Any, model: Model, item: Item, folder: Path) -> dict[str, Any]:
    (answer,) = task.run(Pictures([item]), params, model, JobProgress(StopToken(), folder)).answers
    return dict(answer.result)


@pytest.mark.parametrize("augment", ["none", "flip", "five-crop"])
def test_a_classifier_answers_the_same(tmp_path: Path, augment: Any) -> None:
    preprocess = {"resize": "shortest-edge", "size": 24, "kernel": "bicubic", "crop": FED}
    model = classifier(make_model(tmp_path, colours(), pipeline={"preprocess": preprocess}))
    asked: list[Shrink | None] = []
    item = of_file(FILES["turned-6"](), asked)
    params = ClassificationParams(augment=augment)
    small = told(CLASSIFICATION, params, model, item, tmp_path)
    assert asked == [Shrink("shortest-edge", 24, "bicubic")]
    assert small == told(CLASSIFICATION, params, model, Item("a", item.read), tmp_path)


def test_an_embedder_looks_at_the_whole_picture_only_for_other_scales(tmp_path: Path) -> None:
    model = loaded(unpacked("clip-towers", tmp_path))
    small = model.derived(ImageEmbedder).feed.preprocess.shrink
    assert small is not None
    content = encoded(grain(300, 200), "PNG")
    for scales, expected in (([], small), ([1.0], small), ([2.0], None), ([1.0, 2.0], None)):
        asked: list[Shrink | None] = []
        item, params = of_file(content, asked), ImageEmbeddingParams(scales=scales)
        vector = told(EMBEDDING, params, model, item, tmp_path)
        assert asked == [expected]
        assert vector == told(EMBEDDING, params, model, Item("a", item.read), tmp_path)


def test_a_caption_is_the_same(tmp_path: Path) -> None:
    model = blip(SHIPPED)
    sample = Image.open(SHIPPED / "example" / "0000.png").convert("RGB").resize((300, 200))
    asked: list[Shrink | None] = []
    item, params = of_file(encoded(sample, "PNG"), asked), VqaParams(kind="caption")
    caption = told(VISUAL_QA, params, model, item, tmp_path)
    assert asked == [model.derived(Answerer).pictures.preprocess.shrink]
    assert asked != [None]
    assert caption == told(VISUAL_QA, params, model, Item("a", item.read), tmp_path)
