"""How pictures are fed to one graph that takes nothing else, or nothing else of them: a classifier, an image tower."""

from collections.abc import Mapping, Sequence

import numpy as np

from fleet.errors import ModelError
from worker.contract import Array, Model, Progress, Shapes, Tensor
from worker.pictures.preprocess import Preprocess
from worker.pictures.published import Published

#: Looks at one picture that share a run, at most.
AT_ONCE = 8
_TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint8))
#: Runs on less than this cost less than what a worker keeps back.
_SMALL_ELEMENTS = 1 << 18
#: Pictures that a job may have under way together, at most.
_LANES = 16


class PictureFeed:
    """Thread-safe."""

    def __init__(self, tensor: Tensor, published: Published) -> None:
        """Raises ModelError `unknown-input`, `fixed-batch`, `preprocess-mismatch`."""
        if len(tensor.shape) != 4 or tensor.dtype not in _TYPES:
            raise ModelError(
                f"{tensor.name} is {tensor.dtype.name} {list(tensor.shape)}: float32, float16 or uint8 is fed, "
                "[pictures, 3, height, width] or with the colours last",
                code="unknown-input",
            )
        if tensor.shape[0] not in (-1, 1):
            raise ModelError(
                f"the graph takes {tensor.shape[0]} pictures at a time, no more and no fewer: export it with a batch "
                "of 1, or a free one",
                code="fixed-batch",
            )
        self.tensor = tensor
        self.source = published.source
        self.preprocess = Preprocess(published.recipe)
        #: Whether colours come last, as TensorFlow has them.
        self.colours_last = tensor.shape[1] != 3 and tensor.shape[3] == 3
        height, width = tensor.shape[1:3] if self.colours_last else tensor.shape[2:]
        #: (height, width), where the graph takes no other.
        self.fixed_size = (height, width) if height > 0 and width > 0 else None
        self._check_size()

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def probe_size(self) -> tuple[int, int]:
        """(height, width) of what is fed, or of what may be."""
        return self.preprocess.recipe.fed or self.fixed_size or (224, 224)

    def told(self) -> str:
        """For who checks a model."""
        return f"input {self.name}: {self.preprocess.recipe.told()} (said by {self.source})"

    def numbers(self, views: Sequence[Array], preprocess: Preprocess | None = None) -> Array:
        """uint8 [height, width, 3] each -> [views, 3, height, width], or with colours last, of the input's type."""
        made = preprocess or self.preprocess
        # A graph that takes bytes does the rest by itself.
        whole = self.tensor.dtype == np.uint8
        rows = [view.transpose(2, 0, 1) if whole else made.numbers(view) for view in views]
        if self.colours_last:
            rows = [row.transpose(1, 2, 0) for row in rows]
        if len(rows) == 1:
            return np.ascontiguousarray(rows[0].astype(self.tensor.dtype, copy=False))[None]
        return np.stack(rows).astype(self.tensor.dtype, copy=False)

    def runs(self, model: Model, numbers: Array, others: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The outputs for all rows, as many in a run as the graph takes. With `others` no other job joins a run."""
        most = 1 if self.tensor.shape[0] == 1 else min(AT_ONCE, model.max_batch_size or AT_ONCE)
        made = []
        for at in range(0, len(numbers), most):
            feeds = {self.name: numbers[at : at + most]}
            made.append(model.batched(feeds) if others is None else model.run(feeds | dict(others)))
        if len(made) == 1:
            return made[0]
        return {name: np.concatenate([outputs[name] for outputs in made]) for name in made[0]}

    def run_bytes(
        self,
        model: Model,
        progress: Progress,
        looks: int = 1,
        *,
        size: tuple[int, int] | None = None,
        others: Shapes | None = None,
    ) -> int:
        """Memory that a picture takes besides itself: what so many looks at it are resized to, the feed, and a run.

        size: (height, width) of what is fed, where it is another than the recipe's. others: what is fed beside it.
        Where a guess would refuse the job the model is weighed.
        """
        height, width = size or self.probe_size
        # As bytes, as numbers, and several looks once more, one behind the other.
        around = 32 * height * width * looks
        rows = 1 if self.tensor.shape[0] == 1 else min(looks, AT_ONCE)
        if 3 * height * width * rows < _SMALL_ELEMENTS:
            return around
        shape = (rows, height, width, 3) if self.colours_last else (rows, 3, height, width)
        shapes = {self.name: shape} | dict(others or {})
        need = model.run_bytes(shapes)
        if need > progress.memory_bytes // _LANES:
            need = model.run_bytes(shapes, weigh_with=progress)
        return need + around

    def _check_size(self) -> None:
        fed, fixed = self.preprocess.recipe.fed, self.fixed_size
        if fixed is not None and fed != fixed:
            told = f"{fed[0]} × {fed[1]}" if fed else "pictures of any size"
            raise ModelError(
                f"the graph takes {fixed[0]} × {fixed[1]} pixels, and {self.source} makes {told} of a picture",
                code="preprocess-mismatch",
            )
