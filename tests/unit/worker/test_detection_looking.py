"""Ways to look at a picture, with a graph that finds the one bright thing it is shown: tiles, views, huge pictures."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fleet.contracts import MediaKind, ResultKind
from fleet.errors import InputTooLarge, RunStopped
from tests.support.bright_thing import SIDE, bright_thing
from tests.support.detectors import loaded, make_model
from tests.support.pictures import encoded, with_orientation
from worker.codecs import Codecs
from worker.contract import Array, Encoded, Model, Source
from worker.detection.looking import MOST_LOOKS
from worker.detection.params import DetectionParams
from worker.engine.loaded import RunnableModel
from worker.media.limits import VolumeLimits
from worker.media.picture_limits import PictureLimits
from worker.memory.room import ArrayRoom
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks.object_detection import TASK

TILES = {"size": SIDE, "whole": False}
#: Pixels beyond this lie on disk.
LIMITS = PictureLimits(max_pixels=100_000)


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Codecs]:
    made = Codecs(VolumeLimits(), tmp_path_factory.mktemp("scratch"), LIMITS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    # Grey around a picture is not bright: 114 of 255.
    folder = make_model(
        tmp_path_factory.mktemp("models"), bright_thing(), pipeline={"family": "ultralytics-end-to-end"}
    )
    return loaded(folder)


class Watched(JobProgress):
    """Keeps what it is told, and ends the run when so many looks are done."""

    def __init__(self, most: int = 10**9) -> None:
        super().__init__(StopToken())
        self.steps: list[tuple[int, int]] = []
        self.admitted: list[tuple[int, int]] = []
        self._most = most

    def advance(self, done: int, total: int) -> None:
        super().advance(done, total)
        self.steps.append((done, total))
        if done >= self._most:
            raise RunStopped("cancelled", code="cancelled")

    def admit(self, what: str, peak_bytes: int, *, lean_bytes: int | None = None, scratch_bytes: int = 0) -> ArrayRoom:
        self.admitted.append((peak_bytes, scratch_bytes))
        return super().admit(what, peak_bytes, lean_bytes=lean_bytes, scratch_bytes=scratch_bytes)


def answered(
    codecs: Codecs, model: Model, folder: Path, *pictures: bytes, progress: JobProgress | None = None, **params: Any
) -> Encoded:
    sources = []
    for number, content in enumerate(pictures):
        path = folder / f"{number}.bin"
        path.write_bytes(content)
        sources.append(Source(path, f"{number}.png", "image/png"))
    asked = DetectionParams.model_validate({"confidence": 0.6} | params)
    progress = progress or JobProgress(StopToken())
    media = codecs.decode(MediaKind.IMAGE, sources, asked, progress)
    return codecs.encode(ResultKind.ITEMS, TASK.run(media, asked, model, progress), folder)


def dark(width: int, height: int, *things: tuple[int, int, int, int]) -> Array:
    """Black, with white from x1, y1 to x2, y2."""
    picture = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in things:
        picture[y1:y2, x1:x2] = 255
    return picture


def png(width: int, height: int, *things: tuple[int, int, int, int]) -> bytes:
    return encoded(dark(width, height, *things), "PNG")


def boxes(result: dict[str, Any]) -> list[tuple[float, ...]]:
    """In pixels, from the left."""
    width, height = result["image_size"]["width"], result["image_size"]["height"]
    found = [one["bbox"] for one in result["detections"]]
    return sorted(
        (round(b["x1"] * width, 2), round(b["y1"] * height, 2), round(b["x2"] * width, 2), round(b["y2"] * height, 2))
        for b in found
    )


def test_tiles_see_each_small_thing_where_it_is(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    things = [(10, 20, 16, 26), (170, 110, 176, 119)]
    result = answered(codecs, model, tmp_path, png(200, 150, *things), tiles=TILES | {"overlap": 0.25}).result
    assert boxes(result) == things
    assert result["looks"] == {"tiles": 12, "whole": False, "views": 1}


def test_a_thing_that_lies_across_tiles_is_one(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    # With a step of 40 there are tiles from 0, 40 and 80 on: one sees a part of it, one sees it whole.
    thing = (44, 20, 78, 60)
    whole = answered(codecs, model, tmp_path, png(144, 64, thing), tiles=TILES | {"overlap": 0.375}).result
    assert boxes(whole) == [thing]
    parts = answered(
        codecs, model, tmp_path, png(144, 64, thing), tiles=TILES | {"overlap": 0.375, "merge": "nms", "metric": "iou"}
    ).result
    # Equally sure of both, which overlap by more than a half, it keeps the one that begins and ends first.
    assert boxes(parts) == [(44, 20, 64, 60)]


def test_boxes_of_different_classes_are_one_where_the_request_says_so(codecs: Codecs, tmp_path: Path) -> None:
    graph = bright_thing(white=1)
    model = loaded(make_model(tmp_path / "models", graph, pipeline={"family": "ultralytics-end-to-end"}))
    # The first tile sees the white part of it, the second one only the grey.
    picture = dark(104, 64, (30, 20, 70, 40))
    picture[20:40, 40:70] = 230
    tiles = TILES | {"overlap": 0.375}

    def asked(**params: Any) -> list[tuple[float, ...]]:
        return boxes(answered(codecs, model, tmp_path, encoded(picture, "PNG"), **params).result)

    apart, one = [(30, 20, 64, 40), (40, 20, 70, 40)], [(30, 20, 70, 40)]
    assert asked(tiles=tiles) == apart
    assert asked(tiles=tiles, class_agnostic=True) == one
    assert asked(tiles=tiles | {"class_agnostic": True}) == one
    assert asked(tiles=tiles | {"class_agnostic": False}, class_agnostic=True) == apart


def test_the_whole_picture_is_looked_at_after_its_tiles(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    progress = Watched()
    # Seen whole it begins a pixel earlier, so that it comes before its parts, which are as sure.
    result = answered(
        codecs, model, tmp_path, png(128, 128, (1, 1, 128, 128)), progress=progress, tiles={"overlap": 0}
    ).result
    assert boxes(result) == [(0, 0, 128, 128)]
    assert result["looks"] == {"tiles": 4, "whole": True, "views": 1}
    assert progress.steps == [(done, 5) for done in range(6)]


def test_a_tile_larger_than_the_picture_is_the_picture(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    content = png(50, 30, (5, 5, 20, 25))
    tiled = answered(codecs, model, tmp_path, content, tiles={"size": 500}).result
    assert tiled.pop("looks") == {"tiles": 1, "whole": True, "views": 1}
    assert tiled == answered(codecs, model, tmp_path, content).result


def test_more_tiles_than_anybody_would_wait_for_are_refused(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputTooLarge) as refused:
        answered(codecs, model, tmp_path, png(300, 300), tiles={"size": 16, "overlap": 0.9})
    assert refused.value.code == "too-many-tiles"
    assert refused.value.facts["looks"] > MOST_LOOKS


def test_a_run_ends_between_tiles(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    progress = Watched(most=3)
    with pytest.raises(RunStopped):
        answered(codecs, model, tmp_path, png(300, 300), progress=progress, tiles={"size": 16})
    assert progress.steps[-1][0] == 3


def test_tiles_of_one_picture_share_runs_where_the_model_batches(codecs: Codecs, tmp_path: Path) -> None:
    batching = {"max_batch_size": 4, "dynamic": True, "max_delay_ms": 2000}
    folder = make_model(
        tmp_path / "models", bright_thing(), batching=batching, pipeline={"family": "ultralytics-end-to-end"}
    )
    model = loaded(folder)
    things = [(x, 10, x + 6, 16) for x in (10, 80, 150, 220)]
    result = answered(codecs, model, tmp_path, png(256, 64, *things), tiles=TILES | {"overlap": 0}).result
    assert boxes(result) == things
    assert isinstance(model, RunnableModel)
    assert model.batch_size > 1


def test_a_mirrored_look_finds_the_thing_where_it_is(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    result = answered(codecs, model, tmp_path, png(64, 64, (4, 10, 20, 30)), augment="flip").result
    assert boxes(result) == [(4, 10, 20, 30)]
    assert result["detections"][0]["confidence"] == pytest.approx(1)
    assert result["looks"] == {"tiles": 0, "whole": True, "views": 2}


def test_looks_of_several_scales_agree_on_one_box(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    result = answered(codecs, model, tmp_path, png(64, 64, (16, 16, 48, 40)), augment={"scales": [1, 0.5]}).result
    assert result["looks"]["views"] == 4
    np.testing.assert_allclose(boxes(result), [(16, 16, 48, 40)], atol=1.01)


def test_looks_at_a_symmetric_picture_are_symmetric(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    (box,) = boxes(answered(codecs, model, tmp_path, png(90, 40, (30, 10, 60, 22)), augment={}).result)
    assert box[0] + box[2] == pytest.approx(90, abs=0.05)


def test_tiles_are_looked_at_in_several_ways_too(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    things = [(10, 20, 16, 26), (170, 110, 176, 119)]
    result = answered(codecs, model, tmp_path, png(200, 150, *things), tiles=TILES, augment={}).result
    assert boxes(result) == things
    assert result["looks"]["views"] == 2


def test_a_request_for_few_boxes_gets_the_best_of_all_tiles(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    picture = dark(192, 64, (10, 10, 20, 20), (80, 10, 90, 20), (140, 10, 150, 20))
    picture[10:20, 80:90] = 254
    picture[10:20, 10:20] = 253
    result = answered(
        codecs, model, tmp_path, encoded(picture, "PNG"), tiles=TILES | {"overlap": 0}, max_detections=2
    ).result
    assert boxes(result) == [(80, 10, 90, 20), (140, 10, 150, 20)]


THINGS = [(30, 40, 36, 50), (400, 20, 410, 31), (250, 280, 262, 290)]


def test_a_picture_beyond_the_limit_is_looked_at_in_tiles(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    content = png(500, 300, *THINGS)
    with pytest.raises(InputTooLarge) as refused:
        answered(codecs, model, tmp_path, content)
    assert refused.value.code == "too-many-pixels"
    progress = Watched()
    result = answered(codecs, model, tmp_path, content, progress=progress, tiles=TILES).result
    assert boxes(result) == sorted(THINGS)
    assert result["image_size"] == {"width": 500, "height": 300}
    # Its pixels are on disk while they are looked at, and not before or after.
    assert {scratch - len(content) for _, scratch in progress.admitted} >= {500 * 300 * 3, 0}
    assert progress.admitted[-1][1] == len(content)


def test_a_huge_picture_is_upright_too(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    lying = dark(500, 300, *THINGS)
    result = answered(codecs, model, tmp_path, with_orientation(lying, 6), tiles=TILES).result
    # Turned clockwise: what was at the bottom is at the left.
    upright = sorted((300 - y2, x1, 300 - y1, x2) for x1, y1, x2, y2 in THINGS)
    assert result["image_size"] == {"width": 300, "height": 500}
    np.testing.assert_allclose(boxes(result), upright, atol=1.01)


def test_a_huge_picture_is_also_looked_at_whole_and_drawn(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    content = png(3200, 320, (210, 100, 2800, 200))
    encoding = answered(codecs, model, tmp_path, content, tiles={"size": 320}, preview=True, quality=True)
    np.testing.assert_allclose(boxes(encoding.result), [(210, 100, 2800, 200)], atol=51)
    image = Image.open(io.BytesIO(encoding.files[0].path.read_bytes()))
    assert image.size == (1600, 160)
    assert encoding.result["quality"]["width"] == 3200


def test_a_huge_picture_is_not_shown_smaller(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    content, augment = png(500, 300, *THINGS), {"scales": [1, 0.5]}
    with pytest.raises(InputTooLarge) as refused:
        answered(codecs, model, tmp_path, content, tiles={"size": 64}, augment=augment)
    assert refused.value.code == "too-large-to-scale"
    result = answered(codecs, model, tmp_path, content, tiles=TILES, augment=augment).result
    np.testing.assert_allclose(boxes(result), sorted(THINGS), atol=1.01)


def test_of_many_pictures_each_is_looked_at_in_tiles(codecs: Codecs, model: Model, tmp_path: Path) -> None:
    progress = Watched()
    files = [png(128, 64, (x, 10, x + 8, 20)) for x in (10, 80)]
    items = answered(codecs, model, tmp_path, *files, b"nothing", progress=progress, tiles=TILES).result["items"]
    assert [boxes(item["result"]) for item in items[:2]] == [[(10, 10, 18, 20)], [(80, 10, 88, 20)]]
    assert items[2]["error"]["code"] == "not-a-picture"
    shares = [done / total for done, total in progress.steps]
    assert max(shares) == 1
    assert len({round(share, 3) for share in shares}) > 4
