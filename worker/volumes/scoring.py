"""Runs the network over a grid, whole or in windows, and hands out finished planes of scores in order."""

from collections.abc import Iterator
from itertools import chain, combinations

import numpy as np

from fleet.contracts import Stage
from fleet.errors import ModelError
from worker.contract import Array, Model, Progress, Room
from worker.volumes.blend import BLENDS, Slab
from worker.volumes.orient import Orientation
from worker.volumes.windows import Layout, Triple, window_at


def reordered(view: Array, out: Array) -> Array:
    """Copies a transposed or flipped 3-D view into the C-contiguous `out`, in blocks that stay in the cache.

    numpy's own copy of a reversed 96³ takes six times as long: its strides are multiples of a page.
    """
    fastest = int(np.argmin(np.abs(view.strides)))
    if fastest == 2:
        out[...] = view
    elif fastest == 1:
        for source, target in zip(view, out, strict=True):
            target[...] = np.ascontiguousarray(source.T).T
    else:
        for k in range(view.shape[1]):
            out[:, k] = np.ascontiguousarray(view[:, k].T).T
    return out


class Network:
    """The model as a function from a window [z, y, x] to scores [channels, z, y, x], mirrored passes averaged."""

    def __init__(
        self, model: Model, output: str, channels: int, orientation: Orientation, mirror_axes: tuple[int, ...]
    ) -> None:
        self._model = model
        self.channels = channels
        self._input = model.inputs[0]
        self._output = output
        self._orientation = orientation
        #: Every subset of the axes, beginning with none.
        self.flips = list(chain.from_iterable(combinations(mirror_axes, k) for k in range(len(mirror_axes) + 1)))

    def input_shape(self, window: Triple) -> tuple[int, ...]:
        """Of what the model is fed for a window [z, y, x]."""
        return (1, 1, *self._orientation.per_tensor_axis(window))

    def __call__(self, window: Array, flip: tuple[int, ...]) -> Array:
        """One pass: flipped before and after over these tensor axes."""
        tensor = np.flip(window.transpose(self._orientation.to_tensor), flip)
        feed = reordered(tensor, np.empty(tensor.shape, self._input.dtype))[None, None]
        scores = self._model.run({self._input.name: feed})[self._output]
        if scores.shape != (1, self.channels, *feed.shape[2:]):
            raise ModelError(
                f"output `{self._output}` has shape {list(scores.shape)} for an input of {list(feed.shape)}; "
                f"the settings and labels need {[1, self.channels, *feed.shape[2:]]}",
                code="unexpected-output-shape",
            )
        if not all(np.isfinite(channel).all() for channel in scores[0]):
            raise ModelError(
                f"output `{self._output}` has NaN or infinite scores; half precision may have overflowed",
                code="non-finite-scores",
            )
        out = np.empty((self.channels, *window.shape), np.float32)
        for channel, target in zip(scores[0], out, strict=True):
            reordered(np.flip(channel, flip).transpose(self._orientation.from_tensor), target)
        return out


def score(
    grid: Array, layout: Layout, blend: str, network: Network, progress: Progress, *, room: Room
) -> Iterator[Iterator[Array]]:
    """For each layer of windows the planes [channels, y, x] that it finished, first to last.

    Each group must be used up before the next is asked for. Advances `progress` by one per pass.
    """
    passes = _Passes(network, progress, total=layout.count * len(network.flips))
    if layout.count == 1:
        with progress.stage(Stage.INFER):
            scores = passes.over(grid)
        yield (scores[:, k] for k in range(scores.shape[1]))
        return
    slab: Slab | None = None
    for layer in layout.layers():
        with progress.stage(Stage.INFER):
            for start in layer.windows:
                scores = passes.over(window_at(grid, start, layout.window))
                if slab is None:
                    slab = Slab(layout, len(scores), BLENDS[blend](layout.window), room.zeros)
                slab.add(start, scores)
                # Or it would live beside those of the next window.
                del scores
        if slab is not None:
            yield slab.take(layer.finished)


class _Passes:
    def __init__(self, network: Network, progress: Progress, total: int) -> None:
        self._network, self._progress, self._total = network, progress, total
        self._done = 0

    def over(self, window: Array) -> Array:
        """The mean over all flips."""
        mean: Array | None = None
        for flip in self._network.flips:
            self._progress.check()
            scores = self._network(window, flip)
            mean = scores if mean is None else np.add(mean, scores, out=mean)
            self._done += 1
            self._progress.advance(self._done, self._total)
        assert mean is not None, "there is always the pass without a flip"  # noqa: S101
        count = len(self._network.flips)
        return mean if count == 1 else np.divide(mean, np.float32(count), out=mean)


def unpadded(
    groups: Iterator[Iterator[Array]], pads: tuple[tuple[int, int], ...], grid: Triple
) -> Iterator[Iterator[Array]]:
    """The same groups of planes without the padding around the grid [z, y, x]."""
    (front, _), (top, _), (left, _) = pads
    first = 0
    rows, columns = slice(top, top + grid[1]), slice(left, left + grid[2])

    def inside(planes: Iterator[Array]) -> Iterator[Array]:
        nonlocal first
        for plane in planes:
            if front <= first < front + grid[0]:
                yield plane[:, rows, columns]
            first += 1

    for planes in groups:
        yield inside(planes)
