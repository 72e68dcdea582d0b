"""What a volume job was expected to take against what it took: the estimates behind `not-enough-memory`.

    make bench-footprint            (ARGS="--only ct --only dicom")

Every case is one job in a process of its own: decode, run, encode, with the worker's own budget. Another process looks
every two milliseconds at the anonymous memory of the job's process and of its decoding child. An estimate is sound when
it is not below what was seen, and useful when it is not far above.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import structlog
from make_unet3d import CACHE, make_convolution, make_unet
from pipeline import bench

from worker.memory.budget import Budget
from worker.memory.limit import MIB, Limit, LimitedBy, held_bytes, started_by
from worker.memory.room import ArrayRoom
from worker.memory.share import Memory
from worker.progress import JobProgress
from worker.stop import StopToken

MODELS = Path(__file__).resolve().parents[1] / "models"
_LOOK_S = 0.002
_SOURCE = {"kind": "source"}


@dataclass(frozen=True)
class Case:
    """`size` is (x, y, z). `window` is what the model is fed, so that it can be weighed first."""

    about: str
    size: tuple[int, int, int]
    dtype: str
    suffix: str
    model: Callable[[], Path]
    window: tuple[int, int, int] = (96, 96, 96)
    spacing: tuple[float, float, float] = (0.75, 0.75, 1.0)
    turned: bool = False
    params: dict[str, Any] = field(default_factory=dict)


def convolution(name: str, classes: int = 5, **changes: object) -> Callable[[], Path]:
    def made() -> Path:
        make_convolution(name, classes, **changes)
        return CACHE / name

    return made


def unet() -> Path:
    make_unet()
    return CACHE / "unet3d"


CT = convolution("convolution")
RUN = {"mode": "windows", "shape": [96, 96, 96], "overlap": 0.25}
CASES = {
    "ct": Case("CT, 5 labels", (512, 512, 300), "int16", ".nii.gz", CT),
    "ct-mha": Case("CT, mask as .mha", (512, 512, 300), "int16", ".mha", CT, params={"format": "mha"}),
    "dicom": Case("CT, DICOM zip", (512, 512, 200), "int16", ".zip", CT),
    "mr": Case(
        "MR, brain-extraction", (256, 256, 256), "int16", ".nii.gz", lambda: MODELS / "brain-extraction", (128,) * 3,
        (1.0, 1.0, 1.0),
    ),
    "unet": Case("CT, U-Net", (256, 256, 160), "int16", ".nii.gz", unet),
    "uint8": Case("own grid", (320, 320, 200), "uint8", ".nrrd", convolution("own", grid=_SOURCE)),
    "float64": Case(
        "own grid, z-score", (256, 256, 256), "float64", ".nii",
        convolution("zscore", grid=_SOURCE, intensity={"method": "zscore"}),
    ),
    "oblique": Case(
        "turned, percentiles", (320, 256, 200), "float32", ".nii.gz",
        convolution("turned", intensity={"method": "percentile"}, modality="MR"), turned=True,
    ),
    "labels": Case(
        "labels upsampled", (512, 512, 200), "int16", ".nii.gz", convolution("nearest", upsample="labels")
    ),
    "probabilities": Case(
        "probabilities, tidied", (384, 384, 200), "int16", ".nii.gz",
        convolution("soft", upsample="probabilities", largest_component=True, fill_holes=True),
    ),
    "many": Case("60 labels", (384, 384, 200), "int16", ".nii.gz", convolution("many", 61)),
    "small": Case("64 voxels a side", (64, 64, 64), "int16", ".nii.gz", CT, spacing=(2.0, 2.0, 2.0)),
}  # fmt: skip


class Recorded(JobProgress):
    """Keeps what was asked for; `on_disk` takes the lean way although there is room."""

    def __init__(self, memory: Memory, *, on_disk: bool) -> None:
        super().__init__(StopToken())
        self.share = memory.share(lambda seconds: None)
        self._folder = memory.scratch if on_disk else None
        self.asked: list[int] = []

    def admit(self, what: str, peak_bytes: int, *, lean_bytes: int | None = None, scratch_bytes: int = 0) -> ArrayRoom:
        wanted = lean_bytes if self._folder and lean_bytes is not None else peak_bytes
        self.asked.append(wanted)
        super().admit(what, wanted, scratch_bytes=scratch_bytes)
        return ArrayRoom(self._folder if lean_bytes is not None else None)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", action="append", choices=sorted(CASES), default=[])
    options.add_argument("--markdown", action="store_true")
    options.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.job is not None:
        job(CASES[chosen.job[0]], Path(chosen.job[1]), on_disk=chosen.job[2] == "disk")
        return
    heading(markdown=chosen.markdown)
    for name, case in CASES.items():
        if not chosen.only or name in chosen.only:
            with tempfile.TemporaryDirectory() as folder:
                path = written(case, Path(folder))
                case.model()
                for where in ("memory", "disk"):
                    row(case, where, observed(name, path, where), markdown=chosen.markdown)


def heading(*, markdown: bool) -> None:
    if markdown:
        print("| volume | job | arrays in | decode MiB: estimate, seen | run MiB: estimate, seen | seconds |")
        print("|---|---|---|---|---|---|")
        return
    print(f"{'volume':34}{'job':24}{'arrays':8}{'decode est':>11}{'seen':>7}{'x':>6}{'run est':>9}{'seen':>7}{'x':>6}")


def row(case: Case, where: str, seen: dict[str, float], *, markdown: bool) -> None:
    volume = f"{' × '.join(map(str, case.size))} {case.dtype} {case.suffix}"
    decode, run = (seen[f"{part}_estimate"] / seen[f"{part}_seen"] for part in ("decode", "run"))
    if markdown:
        print(
            f"| {volume} | {case.about} | {where} | {seen['decode_estimate']:.0f}, {seen['decode_seen']:.0f} "
            f"({decode:.2f}) | {seen['run_estimate']:.0f}, {seen['run_seen']:.0f} ({run:.2f}) | {seen['seconds']:.1f} |"
        )
        return
    print(
        f"{volume:34}{case.about:24}{where:8}{seen['decode_estimate']:11.0f}{seen['decode_seen']:7.0f}{decode:6.2f}"
        f"{seen['run_estimate']:9.0f}{seen['run_seen']:7.0f}{run:6.2f}{seen['seconds']:8.1f} s"
    )


def observed(name: str, path: Path, where: str) -> dict[str, float]:
    """Runs the job in a process of its own and watches it: MiB above what it held before the job."""
    command = [sys.executable, __file__, "--job", name, str(path), where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = held_bytes(process.pid)
        peaks = {"own": 0, "child": 0}
        done = threading.Event()
        watcher = threading.Thread(target=watch, args=(process.pid, peaks, done))
        watcher.start()
        process.stdin.write("go\n")
        process.stdin.flush()
        told = json.loads(process.stdout.readline())
        done.set()
        watcher.join()
    return {
        "decode_estimate": told["decode"] / MIB,
        "decode_seen": peaks["child"] / MIB,
        "run_estimate": told["run"] / MIB,
        "run_seen": (peaks["own"] - before) / MIB,
        "seconds": told["seconds"],
    }


def watch(pid: int, peaks: dict[str, int], done: threading.Event) -> None:
    while not done.wait(_LOOK_S):
        peaks["own"] = max(peaks["own"], held_bytes(pid))
        for child in started_by(pid):
            peaks["child"] = max(peaks["child"], held_bytes(child))


def job(case: Case, path: Path, *, on_disk: bool) -> None:
    """In the child: weighs the model, waits for the word, runs the job, tells what it had asked for."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with bench(case.model(), prewarm=False) as made:
        budget = Budget(Limit(64 * 1024**3, LimitedBy.SETTING), used=lambda: 0, free=lambda: 64 * 1024**3)
        memory = Memory(budget, made.scratch, scratch_in_memory=False)
        (tensor,) = made.model.session.inputs
        made.model.for_run(StopToken()).run_bytes(
            {tensor.name: (1, 1, *case.window)}, weigh_with=Recorded(memory, on_disk=False)
        )
        progress = Recorded(memory, on_disk=on_disk)
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.perf_counter()
        made.job(path, progress=progress, **case.params)
        *decodes, run = (asked for asked in progress.asked if asked)
        print(json.dumps({"decode": max(decodes), "run": run, "seconds": time.perf_counter() - began}), flush=True)


def written(case: Case, folder: Path) -> Path:
    """Smooth shapes under noise: every window has something in it, and gzip something to do."""
    x, y, z = case.size
    random = np.random.default_rng(0)
    array = np.empty((z, y, x), case.dtype)
    texture = random.normal(0, 30, (y, x))
    for k in range(z):
        shade = 100 + 80 * np.sin(np.arange(x) / 31 + k / 17) * np.cos(np.arange(y) / 23)[:, None]
        array[k] = np.clip(shade + np.roll(texture, 7 * k), 0, 255)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(case.spacing)
    if case.turned:
        image.SetDirection((0.0, 0.96, 0.28, 0.0, -0.28, 0.96, 1.0, 0.0, 0.0))
    if case.suffix == ".zip":
        return zipped_slices(image, folder)
    path = folder / f"volume{case.suffix}"
    sitk.WriteImage(image, str(path))
    return path


def zipped_slices(image: Any, folder: Path) -> Path:
    """A CT series, one file per plane, by SimpleITK."""
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    path = folder / "series.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(image.GetDepth()):
            plane = image[:, :, k]
            for tag, value in slice_tags(image, k):
                plane.SetMetaData(tag, value)
            file = folder / f"{k}.dcm"
            writer.SetFileName(str(file))
            writer.Execute(plane)
            archive.write(file, file.name)
            file.unlink()
    return path


def slice_tags(image: Any, k: int) -> Iterator[tuple[str, str]]:
    yield "0008|0016", "1.2.840.10008.5.1.4.1.1.2"
    yield "0008|0018", f"1.2.826.0.1.3680043.2.1125.1.{k + 1}"
    yield "0008|0060", "CT"
    yield "0020|000e", "1.2.826.0.1.3680043.2.1125.2"
    yield "0020|0032", "\\".join(f"{value:.6f}" for value in image.TransformIndexToPhysicalPoint((0, 0, k)))
    yield "0020|0037", "1\\0\\0\\0\\1\\0"
    yield "0028|0030", "\\".join(f"{value:.6f}" for value in reversed(image.GetSpacing()[:2]))


if __name__ == "__main__":
    main()
