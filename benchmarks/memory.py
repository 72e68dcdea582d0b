"""Peak memory of one large job: a CT of 512 × 512 × 300 through the pipeline, with a network of one convolution.

    make bench-memory            (ARGS="--size 512 512 300")

The job runs in a process of its own; the peak is the kernel's count for it (VmHWM, so Linux only), files mapped into
it included. The decoding child is counted apart. The yardstick is the volume as float32.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from make_unet3d import CACHE, make_convolution
from pipeline import bench, phantom_ct

MIB = 1024**2


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", type=int, nargs=3, default=(512, 512, 300), metavar=("X", "Y", "Z"))
    options.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.job is not None:
        print(json.dumps(measured(chosen.job)))
        return
    make_convolution()
    x, y, z = chosen.size
    with tempfile.TemporaryDirectory() as folder:
        volume = phantom_ct(Path(folder) / "ct.nii.gz", (x, y, z), (0.75, 0.75, 1.0))
        command = [sys.executable, __file__, "--job", str(volume)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    floats = x * y * z * 4 / MIB
    print(f"{x} × {y} × {z} int16, {floats:.0f} MiB as float32; grid {found['grid']}, {found['windows']} windows")
    print(f"  {'before the job':28}{found['before']:8.0f} MiB   interpreter, libraries, session")
    print(f"  {'peak':28}{found['peak']:8.0f} MiB")
    extra = found["peak"] - found["before"]
    print(f"  {'the job itself':28}{extra:8.0f} MiB   {extra / floats:.2f} × the volume as float32")
    print(f"  {'peak of the decoding child':28}{found['child']:8.0f} MiB   {found['child'] / floats:.2f} ×")
    for stage, seconds in found["stages"].items():
        print(f"    {stage:26}{seconds:8.2f} s")


def measured(path: Path) -> dict[str, object]:
    with bench(CACHE / "convolution") as made:
        before = _peak(os.getpid())
        job = made.job(path)
        peak = _peak(os.getpid())
        (child,) = psutil.Process().children()
        child_peak = _peak(child.pid)
    facts = job.encoded.result["facts"]
    return {
        "before": before,
        "peak": peak,
        "child": child_peak,
        "grid": facts["grid"],
        "windows": facts["windows"],
        "stages": job.stages,
    }


def _peak(pid: int) -> float:
    """MiB. Not `ru_maxrss`, which a process inherits from the one that started it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
