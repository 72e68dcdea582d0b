"""What a segmentation holds at its peak, in bytes, from sizes alone: judged before the first large array exists.

`peak_bytes(plan)` is an upper bound within 1.0 to 1.5 times of what is measured (benchmarks/memory.py). Every term
below is an array in the code it names; float32 takes 4 bytes a voxel, an index 8. The source's voxels do not count:
they are mapped from a file, and the kernel drops such pages before anybody suffers.
"""

from dataclasses import dataclass
from math import ceil, prod

from worker.media.footprint import mask_file_bytes
from worker.volumes.labels import INTERPOLATED
from worker.volumes.plan import Plan
from worker.volumes.settings import Percentile

#: What the allocator keeps of freed planes, and small things.
_SUNDRIES = 48 * 1024**2
#: Components that a label may fall into, as a share of its voxels: noise has that many, tissue a millionth.
_COMPONENTS = 1 / 16


@dataclass(frozen=True)
class Footprint:
    """One job's sizes: those of the plan, and what else decides."""

    plan: Plan
    channels: int
    #: Passes per window; more than one are averaged.
    passes: int
    #: Bytes per voxel of the mask and of the network's input.
    mask_itemsize: int
    input_itemsize: int
    labels: int
    #: What one run of the model takes (`worker.contract.Model.run_bytes`).
    run_bytes: int
    preview: bool
    file_format: str

    def peak_bytes(self, *, on_disk: bool = False) -> int:
        """`on_disk`: without the arrays that then lie in files."""
        return max(self.stages(on_disk=on_disk).values())

    def stages(self, *, on_disk: bool = False) -> dict[str, int]:
        """What is held in each part of the work, everything that is alive by then included."""
        mask = 0 if on_disk else self._source * self.mask_itemsize
        grid = 0 if on_disk else 4 * prod(self.plan.padded)
        scores = self._scores(on_disk)
        base = _SUNDRIES + mask
        return {
            "prepare": base + grid + self._prepare,
            "infer": base + grid + scores + self._infer,
            # ONNX Runtime keeps its arena from here to the end.
            "finish": base + grid + scores + self.run_bytes + self._finish,
            "tidy": base + self.run_bytes + self._tidy(on_disk),
            "measure": base + self.run_bytes + self._measure,
            "preview": base + self.run_bytes + self._preview,
            "encode": base + self.run_bytes + mask_file_bytes(self._source * self.mask_itemsize, self.file_format),
        }

    @property
    def _source(self) -> int:
        return int(self.plan.volume.array.size)

    @property
    def _source_plane(self) -> int:
        _, rows, columns = self.plan.volume.array.shape
        return int(rows * columns)

    @property
    def _grid_plane(self) -> int:
        return prod(self.plan.padded[1:])

    @property
    def _window(self) -> int:
        return prod(self.plan.window)

    def _scores(self, on_disk: bool) -> int:
        """blend.Slab: sums per channel and their weights, a window deep. A single window's scores need none."""
        if self.plan.layout.count == 1:
            return 0
        slab = (self.channels + 1) * self.plan.window[0] * self._grid_plane * 4
        return (0 if on_disk else slab) + 4 * self._window

    @property
    def _prepare(self) -> int:
        """grid.resample: three source planes as float and one product. intensity.fit: a plane's sort keys, digits as
        indices and their counts; or its float64 copies."""
        itemsize = self.plan.volume.array.dtype.itemsize
        of_plane = max(self._source_plane, self._grid_plane)
        ranks = isinstance(self.plan.settings.intensity, Percentile)
        fitted = of_plane * (4 * max(itemsize, 4) + 8 if ranks else 24)
        return max(4 * (3 * self._source_plane + 2 * of_plane), fitted)

    @property
    def _infer(self) -> int:
        """scoring.Network: the feed, the run, and its scores in the array's order; the mean when there are several
        passes; one channel's flags, and one weighted channel on its way into the slab."""
        kept = self.channels * (2 if self.passes > 1 else 1)
        return self.run_bytes + self._window * (self.input_itemsize + 4 * kept + 5)

    @property
    def _finish(self) -> int:
        """Scores of a single window stay until its last plane is painted. A plane of scores leaves, the last one is
        kept, an activation takes two more; labels and flags. labels.LinearPainter: a source plane's labels and flags
        and the voxels to interpolate, of which some are worked on at a time: fourteen indices and weights each, and
        six arrays of scores."""
        whole = 4 * self.channels * self._window if self.plan.layout.count == 1 else 0
        activated = 2 if self.plan.settings.upsample == "probabilities" else 0
        planes = self._grid_plane * (4 * self.channels * (2 + activated) + 16)
        together = min(max(1, INTERPOLATED // self.channels), self._source_plane)
        return whole + planes + 16 * self._source_plane + together * (14 * 8 + 6 * 4 * self.channels)

    def _tidy(self, on_disk: bool) -> int:
        """components: flags and numbers of the box, at most the volume; then counts of two kinds per component."""
        if not (self.plan.settings.largest_component or self.plan.settings.fill_holes):
            return 0
        arrays = 0 if on_disk else 5 * self._source
        return arrays + int(16 * _COMPONENTS * self._source) + 16 * self._source_plane

    @property
    def _measure(self) -> int:
        """statistics._Marginals: six indices per voxel of a plane and its weight; counts per label along an axis."""
        longest = int(max(self.plan.volume.array.shape))
        return 64 * self._source_plane + 8 * (self.labels + 1) * 5 * longest + 4 * 65536

    @property
    def _preview(self) -> int:
        """preview._window: every ninth voxel of at most 95 planes, its tissue, and that one's sort keys and digits;
        a CT's window is fixed. A slice in float64, and the pictures."""
        if not self.preview:
            return 0
        planes, itemsize = len(self.plan.volume.array), self.plan.volume.array.dtype.itemsize
        modality = self.plan.volume.about.get("modality") or self.plan.settings.modality
        seen = 0 if modality == "CT" else ceil(planes / max(1, planes // 48)) * self._source_plane // 9
        longest = int(max(self.plan.volume.array.shape))
        return seen * (6 * itemsize + 16) + 24 * longest * longest + 24 * 1024**2
