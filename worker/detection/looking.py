"""How a picture is looked at: once, in tiles, in several views, or in several views of each tile.

    picture -> parts (tiles, and the whole) -> views of each -> boxes of each view
            -> fused for each part -> moved to where the part lies -> merged

See docs/how-to/look-closer.md.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from fleet.contracts import Stage
from fleet.cpus import usable_cpus
from fleet.errors import InputTooLarge
from worker.contract import Array, Model, Picture, Progress
from worker.detection.detector import Detector
from worker.detection.drawing import LONGEST_SIDE
from worker.detection.found import Found, Wanted
from worker.detection.fusion import fused
from worker.detection.merging import Merging
from worker.detection.params import Augment, DetectionParams, Tiles
from worker.detection.views import View
from worker.pictures.items import Stages
from worker.pictures.on_disk import BAND_BYTES, is_on_disk
from worker.pictures.tiling import Grid, Tile

#: Of one picture: what takes a CPU half an hour with a small network.
MOST_LOOKS = 20_000
#: Boxes of all tiles that are merged, the best ones, and what a request can ask for at most.
_MOST_BOXES = 30_000
_MOST_LANES = 16
#: Below this confidence boxes are not merged, unless asked: hulls of doubtful boxes grow over everything, says sahi.
_DOUBTFUL = 0.1
#: (looks that are done, looks) of one picture; raises RunStopped when the run should end.
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Looking:
    """What a request wants of every picture of a job."""

    detector: Detector
    model: Model
    wanted: Wanted
    tiles: Tiles | None
    augment: Augment | None
    #: Of the whole answer of a picture, where the request says it; without tiles `wanted` says so.
    most: int
    #: Whether it says that boxes of different classes drop each other.
    agnostic: bool = False

    #: Looks at a time.
    lanes: int = 1

    @classmethod
    def of(
        cls, detector: Detector, model: Model, params: DetectionParams, usual_confidence: float | None, room: int
    ) -> "Looking":
        """room: runs that the worker's memory has room for. Raises ValidationFailed `class-unknown`."""
        wanted = detector.wanted(params, usual_confidence)
        most = wanted.max_detections if params.tiles is None else params.max_detections or _MOST_BOXES
        augment = Augment() if params.augment == "flip" else params.augment
        lanes = 1
        if params.tiles is not None or augment is not None:
            lanes = min(_MOST_LANES, room, max(model.at_once + 1, usable_cpus(), model.max_batch_size))
        agnostic = bool(params.class_agnostic)
        return cls(detector, model, wanted, params.tiles, augment, most, agnostic, max(1, lanes))

    @property
    def plain(self) -> bool:
        """Whether a picture is looked at once."""
        return self.tiles is None and self.augment is None

    def held(self, picture: Picture) -> int:
        """Memory in bytes that `find` takes besides the picture and the model's runs."""
        if self.plain:
            return 0
        width, height = picture.size if self.tiles is None else self._grid(picture.size, self.tiles).tile
        larger = max((1 / view.scale**2 for view in self._views), default=1.0)
        views = self.lanes * min(width * height, picture.array.size // 3) * 3 * (1 + larger)
        return int(views) + (self._held_to_shrink(picture.size) if is_on_disk(picture.array) else 0)

    def _held_to_shrink(self, size: tuple[int, int]) -> int:
        """A picture on disk: some bands of it, and all its rows in the width of an input or of the preview."""
        shrunk = 4 * BAND_BYTES + 4 * max(LONGEST_SIDE, *self.detector.family.largest) * max(size)
        # Its views may be looked at side by side.
        return shrunk * min(self.lanes, len(self._views))

    def find(self, picture: Picture, stages: Stages, step: Step) -> Found:
        """Boxes in pixels of the picture, best first. Raises as `Detector.find`.

        Raises InputTooLarge `too-many-tiles` or `too-large-to-scale`.
        """
        if self.plain:
            return self.detector.find(picture, self.wanted, self.model, stages)
        parts = self._parts(picture)
        views, total = self._views, len(parts) * len(self._views)

        def look(place: int) -> Found:
            part, view = parts[place // len(views)], views[place % len(views)]
            return self._seen(part.of(picture.array) if part else picture.array, view)

        with stages(Stage.INFER), ThreadPoolExecutor(min(self.lanes, total), "looks") as pool:
            try:
                looks = _told(pool.map(look, range(total)), total, step)
                gathered = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
                for part in parts:
                    seen = list(islice(looks, len(views)))
                    whole = part or Tile(0, 0, *picture.size)
                    gathered = _with(gathered, self._agreed(seen, whole))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        with stages(Stage.FINISH):
            gathered = _best(gathered)
            merged = self._merging.of(gathered) if self.tiles is not None else gathered
            return merged.clipped(picture.size).best(self.most)

    def told(self, picture: Picture) -> dict[str, int | bool]:
        """How a picture was looked at, for the answer."""
        tiles, whole = 0, True
        if self.tiles is not None:
            tiles = self._grid(picture.size, self.tiles).count
            whole = self.tiles.whole or tiles == 1
        return {"tiles": tiles, "whole": whole, "views": len(self._views)}

    def _parts(self, picture: Picture) -> Sequence[Tile | None]:
        """Tiles, then None for the whole."""
        scaled = any(view.scale < 1 for view in self._views)
        if self.tiles is None:
            return [None]
        grid = self._grid(picture.size, self.tiles)
        looks = (grid.count + self.tiles.whole) * len(self._views)
        if looks > MOST_LOOKS:
            raise InputTooLarge(
                f"{picture.size[0]} × {picture.size[1]} pixels in tiles of {grid.tile[0]} × {grid.tile[1]} with an "
                f"overlap of {grid.overlap:g} are {looks:,} looks at the picture; the limit is {MOST_LOOKS:,}: ask for "
                "larger tiles or less overlap",
                code="too-many-tiles",
                looks=looks,
                limit=MOST_LOOKS,
            )
        # One tile is the whole.
        whole: list[Tile | None] = [None] if self.tiles.whole and grid.count > 1 else []
        if whole and scaled and is_on_disk(picture.array):
            raise InputTooLarge(
                f"the picture has {picture.size[0]} × {picture.size[1]} pixels, which is too large to be shown whole "
                "and smaller: leave `scales` away, or ask for tiles with `whole: false`",
                code="too-large-to-scale",
            )
        return [*grid, *whole]

    def _seen(self, pixels: Array, view: View) -> Found:
        """Boxes in pixels of the part."""
        shown = Picture(view.of(pixels))
        found = self.detector.find(shown, self._asked, self.model, lambda stage: nullcontext())
        size = pixels.shape[1], pixels.shape[0]
        return view.back(found, size, self.detector.family.defaults.mirrored_points)

    @property
    def _asked(self) -> Wanted:
        """Of each view: boxes that one view doubts count where another one is sure."""
        return self.wanted if self.augment is None else replace(self.wanted, confidence=self._skip)

    @property
    def _skip(self) -> float:
        assert self.augment is not None  # noqa: S101 - only asked for then
        return self.wanted.confidence / 2 if self.augment.skip is None else self.augment.skip

    def _agreed(self, seen: Sequence[Found], part: Tile) -> Found:
        """What the views of a part agree on, in pixels of the picture."""
        found = seen[0]
        if self.augment is not None:
            size = part.right - part.left, part.bottom - part.top
            found = fused(seen, size, self.augment.iou, self._skip).meeting(self.wanted)
            found = found.best(self.wanted.max_detections)
        offset = np.array([part.left, part.top], np.float32)
        points = None if found.landmarks is None else found.landmarks + offset
        return replace(found, boxes=found.boxes + np.tile(offset, 2), landmarks=points)

    @property
    def _views(self) -> Sequence[View]:
        if self.augment is None:
            return [View()]
        mirrored = (False, True) if self.augment.flip else (False,)
        return [View(mirror, scale) for scale in self.augment.scales for mirror in mirrored]

    @property
    def _merging(self) -> Merging:
        assert self.tiles is not None  # noqa: S101 - only asked for then
        doubtful = self.wanted.confidence < _DOUBTFUL and self.tiles.merge is None
        return Merging(
            self.tiles.merge or ("nms" if doubtful else "greedy_nmm"),
            self.tiles.metric or ("iou" if doubtful else "ios"),
            self.tiles.threshold,
            self.agnostic if self.tiles.class_agnostic is None else self.tiles.class_agnostic,
        )

    def _grid(self, size: tuple[int, int], tiles: Tiles) -> Grid:
        side = tiles.size or self.detector.family.largest
        return Grid(size, (side, side) if isinstance(side, int) else side, tiles.overlap)


class Steps:
    """How far a job of several pictures is, told look by look. Pictures come one after another."""

    def __init__(self, progress: Progress, pictures: int) -> None:
        self._progress = progress
        self._pictures = pictures
        self._begun = 0

    def of_picture(self) -> Step:
        """For the next one."""
        before = self._begun
        self._begun += 1
        return lambda done, total: self._progress.advance(before * total + done, self._pictures * total)


def _told(looks: Iterator[Found], total: int, step: Step) -> Iterator[Found]:
    step(0, total)
    for done, found in enumerate(looks, 1):
        step(done, total)
        yield found


def _with(gathered: Found, more: Found) -> Found:
    """Both, in their order; the best of them when there are very many."""
    if not len(gathered):
        return more
    landmarks = None
    if gathered.landmarks is not None and more.landmarks is not None:
        landmarks = np.concatenate([gathered.landmarks, more.landmarks])
    both = Found(
        np.concatenate([gathered.boxes, more.boxes]),
        np.concatenate([gathered.scores, more.scores]),
        np.concatenate([gathered.classes, more.classes]),
        landmarks,
    )
    return both if len(both) <= 2 * _MOST_BOXES else _best(both)


def _best(found: Found) -> Found:
    """As many as are merged, in the order they came."""
    return found.only(np.sort(np.argsort(-found.scores, kind="stable")[:_MOST_BOXES]))
