"""What makes vectors of pictures with one loaded model: how its image tower is fed, and what its numbers mean."""

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from fleet.contracts import Stage
from fleet.embeddings import fault
from fleet.errors import ModelError
from worker.contract import Array, Model, Picture, Progress
from worker.embedding.readings import image_reading
from worker.embedding.settings import ImageEmbeddingParams, ImageEmbeddingSettings
from worker.embedding.towers import MASK, POSITIONS, Towers, picture_input, text_inputs, towers_of
from worker.embedding.units import units
from worker.pictures.feed import PictureFeed
from worker.pictures.items import Stages
from worker.pictures.preprocess import Preprocess
from worker.pictures.publisher import PublishedFiles, picture_recipe
from worker.pictures.recipe import Recipe
from worker.pictures.shrink import Shrink
from worker.pictures.views import COUNTS, check_views, pieces_of, views_of

#: Codes of what a graph says to pictures of a size that it does not take; memory that ran out says nothing of that.
_OF_THE_GRAPH = frozenset({"inference-invalid-input", "inference-failed"})


class ImageEmbedder:
    """Thread-safe. Made once per loaded model: `model.derived(ImageEmbedder)`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError for a model that cannot be used so, with what is wrong."""
        settings: ImageEmbeddingSettings = model.settings
        self.settings = settings
        self.files = PublishedFiles(model.file)
        self.config: Mapping[str, Any] = self.files.object(settings.config)
        #: Of transformers' models: `clip`, `siglip`, `dinov2`, ...; else empty.
        self.family = str(self.config.get("model_type") or "")
        self.towers: Towers = towers_of(model.graphs)
        graph = model.graphs[self.towers.image]
        tensor = picture_input(graph)
        assert tensor is not None  # noqa: S101 (by it the tower was found)
        self.feed = PictureFeed(tensor, picture_recipe(settings, self.files, graph.notes.metadata))
        #: What a graph that reads texts, too, is fed beside a picture that stands alone.
        self.beside = _empty_text(graph) if self.towers.joint else None
        noise = self.noise()
        outputs = self.run(self.feed.numbers([noise, noise[:, ::-1]]), model)
        self.reading = image_reading(graph.outputs, settings, self.family, outputs)
        vectors = self.reading.of(outputs, settings.prefix_tokens)
        #: Numbers of a vector.
        self.width = vectors.shape[1]
        #: Whether the graph makes vectors one unit long by itself.
        with np.errstate(over="ignore"):
            self.unit_inside = bool(np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-3)
        self._lock = threading.Lock()
        #: Whether the graph takes pictures of another size; None until that was of interest.
        self._any_size: bool | None = None

    def run(self, numbers: Array, model: Model) -> dict[str, Array]:
        """The outputs of the image tower for all rows. Raises as `model.batched`."""
        return self.feed.runs(model.graphs[self.towers.image], numbers, self.beside)

    def noise(self) -> Array:
        """uint8 [height, width, 3]: a picture in which no two places are alike."""
        return np.random.default_rng(0).integers(0, 256, (*self.feed.probe_size, 3), np.uint8)

    def normalized(self, params: ImageEmbeddingParams) -> bool:
        """Whether the vectors of the answer are one unit long."""
        wanted = self.settings.normalize if params.normalize is None else params.normalize
        return wanted or (self.unit_inside and not params.scales and params.augment == "none")

    def check_params(self, params: ImageEmbeddingParams, model: Model) -> None:
        """Raises ValidationFailed `views-unsupported`, `scales-unsupported`."""
        check_views(self.feed.preprocess, params.augment)
        for number, scale in enumerate(params.scales):
            if scale < 1 and self._preprocess(scale, model) is None:
                raise fault(
                    f"the model cannot look at pictures at the scale {scale}: its graph takes pictures of one size "
                    "only, or nothing says which sizes it takes (`pipeline.size_multiple`). Scales from 1 on look at "
                    "parts of the picture",
                    code="scales-unsupported",
                    where=f"#/params/scales/{number}",
                )

    def embed(self, picture: Picture, params: ImageEmbeddingParams, model: Model, stages: Stages) -> Array:
        """float32 [width]. Raises ModelError `result-not-finite`, and as `model.batched`."""
        unit = self.settings.normalize if params.normalize is None else params.normalize
        several = len(params.scales) > 1 or params.scales not in ([], [1.0]) or params.augment != "none"
        means = []
        for scale in params.scales or [1.0]:
            with stages(Stage.PREPARE):
                numbers = self._looks(picture.array, scale, params, model)
            with stages(Stage.INFER):
                vectors = self.reading.of(self.run(numbers, model), self.settings.prefix_tokens)
            # Each look counts the same, however long its vector is.
            means.append((units(vectors) if unit and several else vectors).mean(axis=0, dtype=np.float32))
        vector: Array = np.stack(means).mean(axis=0, dtype=np.float32)
        if unit:
            vector = units(vector[None])[0]
        if not np.isfinite(vector).all():
            raise ModelError("the model answered with numbers that are not finite", code="result-not-finite")
        return vector

    def shrink(self, params: ImageEmbeddingParams) -> Shrink | None:
        """What is done first with each picture; None where looks at other scales need all of it."""
        return self.feed.preprocess.shrink if set(params.scales) <= {1.0} else None

    def run_bytes(self, params: ImageEmbeddingParams, model: Model, progress: Progress) -> int:
        """Memory that a picture takes besides itself."""
        others = {name: feed.shape for name, feed in (self.beside or {}).items()}
        graph = model.graphs[self.towers.image]
        needs = []
        for scale in params.scales or [1.0]:
            preprocess, looks = self._preprocess(scale, model), COUNTS[params.augment]
            if preprocess is None:
                looks *= math.ceil(scale) ** 2
            size = preprocess.recipe.fed if preprocess is not None else None
            needs.append(self.feed.run_bytes(graph, progress, looks, size=size, others=others))
        return max(needs)

    def _looks(self, picture: Array, scale: float, params: ImageEmbeddingParams, model: Model) -> Array:
        """What is fed of a picture at one scale."""
        preprocess = self._preprocess(scale, model)
        if preprocess is not None:
            return self.feed.numbers(views_of(picture, preprocess, params.augment), preprocess)
        own = self.feed.preprocess
        return self.feed.numbers(
            [it for part in pieces_of(picture, scale) for it in views_of(part, own, params.augment)]
        )

    def _preprocess(self, scale: float, model: Model) -> Preprocess | None:
        """The recipe at another size; None where the graph does not take that."""
        own = self.feed.preprocess
        fed, multiple = own.recipe.fed, self.settings.size_multiple or _patch_size(self.config)
        if scale == 1:
            return own
        if self.feed.fixed_size is not None or fed is None or multiple is None:
            return None
        with self._lock:
            if self._any_size is None:
                tried = fed[0] + multiple, fed[1] + multiple
                self._any_size = self._takes(_resized(own.recipe, tried[0] / fed[0], tried), model)
        height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in fed)
        return _resized(own.recipe, height / fed[0], (height, width)) if self._any_size else None

    def _takes(self, preprocess: Preprocess, model: Model) -> bool:
        """A graph may declare that it takes any size, and have learnt places of one.

        Raises as `model.batched`, but for what the graph itself has against the picture.
        """
        black = np.zeros((*(preprocess.recipe.fed or self.feed.probe_size), 3), np.uint8)
        try:
            self.run(self.feed.numbers([black], preprocess), model)
        except ModelError as error:
            if error.code not in _OF_THE_GRAPH:
                raise
            return False
        return True


def _resized(recipe: Recipe, factor: float, fed: tuple[int, int]) -> Preprocess:
    """The recipe that feeds pictures of the size `fed`, (height, width), and cuts off the same part of them."""
    if recipe.crop is None:
        return Preprocess(recipe.model_copy(update={"size": fed}))
    height, width = recipe.stretched
    size: int | tuple[int, int] = (max(1, round(height * factor)), max(1, round(width * factor)))
    if isinstance(recipe.size, int):
        size = max(1, round(recipe.size * factor))
    return Preprocess(recipe.model_copy(update={"size": size, "crop": fed}))


def _patch_size(config: Mapping[str, Any]) -> int | None:
    vision = config.get("vision_config")
    found = (vision if isinstance(vision, dict) else config).get("patch_size")
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= 1024 else None


def _empty_text(graph: Model) -> dict[str, Array]:
    feeds = {}
    for role, tensor in text_inputs(graph).items():
        shape = tuple(size if size > 0 else smallest for size, smallest in zip(tensor.shape, (1, 2), strict=True))
        numbers = np.full(shape, role == MASK, tensor.dtype)
        if role == POSITIONS:
            numbers = np.broadcast_to(np.arange(shape[1], dtype=tensor.dtype), shape)
        feeds[tensor.name] = numbers
    return feeds
