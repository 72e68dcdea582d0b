"""One segmentation job in this process, by the worker's own pieces: decode, run, encode. For the benchmarks."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from fleet.contracts import Stage
from fleet.cpus import usable_cpus
from fleet.settings import CPU_PROVIDER
from worker.contract import Array, Encoded, Source
from worker.engine.arena import share_arena
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.media.encoder import encode_mask
from worker.media.limits import VolumeLimits
from worker.media.reader import VolumeReader
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks


@dataclass(frozen=True)
class Timed:
    """Seconds of one job: all of it, its stages, its model calls, and the bare calls that were paired with them."""

    wall_s: float
    stages: dict[str, float]
    model_s: float
    bare_s: float
    encoded: Encoded


class Bench:
    """A loaded model and a warm decoder."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        share_arena()
        (version,) = read_versions(folder, find_tasks())
        setup = SessionSetup([CPU_PROVIDER], intra_op_threads=usable_cpus())
        self.model = LoadedModel(version, Session(version.graph, setup), setup)
        self.reader = VolumeReader(VolumeLimits(), scratch)
        self.scratch = scratch

    def job(self, path: Path, *, paired: bool = False, progress: JobProgress | None = None, **params: Any) -> Timed:
        """Decodes, runs and encodes once.

        `paired`: each model call is followed by one of the same shape on the bare session, which is timed apart and
        taken off the job's time. What else the machine does then slows both sides alike.
        """
        task, stop = self.model.version.task, StopToken()
        progress = progress or JobProgress(stop)
        model = self.model.for_run(stop)
        run, spent = model.run, {"model": 0.0, "bare": 0.0}

        def timed(feeds: Mapping[str, Array]) -> dict[str, Array]:
            began = time.perf_counter()
            outputs = run(feeds)
            spent["model"] += time.perf_counter() - began
            if paired:
                same = {name: feed.copy() for name, feed in feeds.items()}
                began = time.perf_counter()
                self.model.session.run(same, stop)
                spent["bare"] += time.perf_counter() - began
            return outputs

        model.run = timed  # type: ignore[method-assign]
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            with progress.stage(Stage.DECODE):
                volume = self.reader.read(Source(path, "", ""), progress)
            mask = task.run(volume, task.Params.model_validate(params), model, progress)
            with progress.stage(Stage.ENCODE):
                encoded = encode_mask(mask, Path(folder))
        wall = time.perf_counter() - began - spent["bare"]
        stages = progress.timings
        stages["infer"] -= spent["bare"]
        return Timed(wall, stages, spent["model"], spent["bare"], encoded)


@contextmanager
def bench(folder: Path, *, prewarm: bool = True) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as scratch:
        made = Bench(folder, Path(scratch))
        if prewarm:
            made.reader.prewarm()
        try:
            yield made
        finally:
            made.reader.close()


def phantom_ct(path: Path, size: tuple[int, int, int], spacing: tuple[float, float, float]) -> Path:
    """A chest of ellipses in noise, int16 HU, as .nii.gz; size and spacing are (x, y, z)."""
    random = np.random.default_rng(0)
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in reversed(size))
    plane = np.hypot(x / 0.85, y[:, None] / 0.65)
    chest = np.where(plane < 1, 40, -1000).astype(np.float32)
    lungs = np.minimum(np.hypot((x - 0.38) / 0.3, y[:, None] / 0.42), np.hypot((x + 0.38) / 0.3, y[:, None] / 0.42))
    array = np.empty(tuple(reversed(size)), np.int16)
    texture = ndimage.gaussian_filter(random.normal(0, 160, plane.shape), 2).astype(np.float32)
    for k, height in enumerate(z):
        shade = np.where(lungs < 1 - 0.6 * height**2, -820, chest) + texture
        array[k] = shade + random.normal(0, 12, plane.shape)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path
