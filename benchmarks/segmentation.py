"""A volume through Fleet's pipeline against the bare runtime on the same windows, in one process.

    make bench-segmentation            (ARGS="--rounds 3 --only brain-extraction")

Two jobs: the model that comes with Fleet on the scan that comes with Fleet, and a random 3-D U-Net of about five
million parameters on a synthetic CT of 256 × 256 × 160. The job is decode, run and encode with a preview; the bare
runtime does nothing but `session.run` on inputs of the same shapes, half of it before the job and half after.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from make_unet3d import CACHE, make_unet
from pipeline import Bench, bench, phantom_ct

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"brain-extraction": 1.5, "unet3d": 1.25}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3, help="jobs on the demo model; the U-Net runs one")
    options.add_argument("--only", choices=sorted(TARGETS))
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.only in (None, "brain-extraction"):
            with bench(ROOT / "models" / "brain-extraction") as made:
                scan = ROOT / "examples" / "data" / "head-t1.nii.gz"
                report("brain-extraction", made, scan, chosen.rounds)
                report("brain-extraction", made, scan, chosen.rounds, mirror=False)
        if chosen.only in (None, "unet3d"):
            make_unet()
            with bench(CACHE / "unet3d") as made:
                report("unet3d", made, phantom_ct(Path(folder) / "ct.nii.gz", (256, 256, 160), (0.9, 0.9, 1.6)), 1)


def report(name: str, made: Bench, path: Path, rounds: int, **params: Any) -> None:
    jobs = [made.job(path, paired=True, **params) for _ in range(rounds)]
    facts = jobs[-1].encoded.result["facts"]
    print(f"\n{name} {params or ''}: {facts['windows']} windows, {facts['passes']} passes on a grid of {facts['grid']}")
    row("job", (job.wall_s for job in jobs))
    for stage in jobs[-1].stages:
        row(f"  {stage}", (job.stages[stage] for job in jobs))
    row("  of infer: the model", (job.model_s for job in jobs))
    row("bare runtime", (job.bare_s for job in jobs))
    ratio = statistics.median(job.wall_s / job.bare_s for job in jobs)
    print(f"  {'job / bare':24}{ratio:9.3f}    target {TARGETS[name]} or less")
    print(
        "  "
        + "; ".join(f"{label['name']}: {label['volume_ml']:,.0f} ml" for label in jobs[-1].encoded.result["labels"])
    )


def row(name: str, seconds: Iterable[float]) -> None:
    print(f"  {name:24}{statistics.median(seconds):9.3f} s")


if __name__ == "__main__":
    main()
