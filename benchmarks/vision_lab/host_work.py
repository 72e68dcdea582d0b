"""What is done with a picture besides the network: milliseconds by step, of this process and of the one that decodes.

Steps take turns, since machines wander. `wall` is what passed, `CPU` what both processes used of the cores.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from vision_lab.in_process import InProcess
from vision_lab.networks import Network
from worker.contract import Array, Picture, Source
from worker.detection.answer import answer_of
from worker.detection.detector import Detector
from worker.detection.params import DetectionParams
from worker.media.picture_decode import decode_picture
from worker.media.picture_limits import PictureLimits
from worker.media.pictures import PictureReader
from worker.stop import StopToken

#: Of the issue: for a JPEG of a megapixel at 640.
TARGET_MS = 7.0


def show_host_work(network: Network, work: Path, rounds: int) -> bool:
    """Prints a table; whether all of it together is within the target, in the median of the processor's time."""
    ours = InProcess(network, work)
    model = ours.model.for_run(StopToken())
    detector = model.derived(Detector)
    wanted = detector.wanted(DetectionParams(), None)
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        reader = PictureReader(PictureLimits(), Path(scratch))
        item = reader.pictures([Source(network.picture, "picture", "image/jpeg")]).items[0]

        def read() -> Picture:
            return item.read(lambda what, peak, files=0: None, lambda: None)

        picture = read()
        prepared = detector.family.prepared(picture.array)
        outputs = model.batched(prepared.feeds)

        def finish() -> object:
            found = detector.family.found(outputs, prepared.frame, wanted).clipped(picture.size)
            return answer_of(found, picture.size, detector.names)

        def whole() -> object:
            return detector.family.prepared(read().array) and finish()

        steps: dict[str, Callable[[], object]] = {
            "all but the network": whole,
            "read, in the decoder's process": read,
            "  the same in this process": lambda: decode_picture(network.picture, PictureLimits()),
            "  of it Pillow's decoder": lambda: pillow_alone(network.picture),
            "resize, pad, normalise": lambda: detector.family.prepared(picture.array),
            "decode boxes, suppress, answer": finish,
        }
        children = [child.pid for child in psutil.Process().children()]
        wall, cpu = measured(steps, rounds, children)
        reader.close()
    height, width = picture.array.shape[:2]
    size = network.picture.stat().st_size
    boxes = len(detector.family.found(outputs, prepared.frame, wanted))
    print(f"{width} × {height}, {size // 1024} KiB, {boxes} boxes; {rounds} rounds")
    print(f"{'':36}{'wall ms':>10}{'least':>8}{'CPU ms':>10}{'least':>8}")
    for name in steps:
        times = [1000 * statistics.median(wall[name]), 1000 * min(wall[name])]
        times += [1000 * statistics.median(cpu[name]), 1000 * min(cpu[name])]
        print(f"{name:36}{times[0]:>10.2f}{times[1]:>8.2f}{times[2]:>10.2f}{times[3]:>8.2f}")
    held = 1000 * statistics.median(cpu["all but the network"]) <= TARGET_MS
    print(f"target: at most {TARGET_MS:g} ms, median of CPU: {'yes' if held else 'NO'}")
    ours.close()
    return held


def measured(
    steps: dict[str, Callable[[], object]], rounds: int, children: list[int]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            spent, began = used_s(children), time.perf_counter()
            step()
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(used_s(children) - spent)
    return wall, cpu


def used_s(children: list[int]) -> float:
    """Of this process and these, to the microsecond: what `times` of a process tells is counted in hundredths."""
    told = [Path(f"/proc/{pid}/schedstat") for pid in children]
    return time.process_time() + sum(int(each.read_text().split()[0]) for each in told) / 1e9


def pillow_alone(path: Path) -> Array:
    with Image.open(path) as image:
        image.load()
    return np.empty(0)
