"""Damaged files through the decoders, many of them: nothing may crash, hang, swell, or be left behind.

    make fuzz            (ARGS="--seed 2 --count 10000")

Volumes, DICOM zips and pictures are damaged at random (tests/support/mutation.py) and read as a worker reads uploads:
in a decoding process under a memory limit. A seed names the same files for good. Findings are kept under `--keep`, and
the exit code is 1 when there are any.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from tests.support.decoder_trial import LIMITS, Outcome, Trial, Verdict, trial
from tests.support.mutation import Mutant, mutant
from tests.support.sound_files import PLAIN, ZIPPED, sound_files

#: One zip in five: each takes a decoding process of its own, and so hundreds of times as long as a plain file.
KINDS = (*PLAIN * 4, *ZIPPED)
Judged = tuple[Mutant, Outcome]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--count", type=int, default=10_000)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--keep", type=Path, default=Path("out/fuzz"), help="where findings are kept")
    chosen = options.parse_args()
    keep = chosen.keep.resolve()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("sound", "trial", "here"):
            (folder / part).mkdir()
        sound = sound_files(folder / "sound")
        # Decoders inherit it: what they write without being asked shows here.
        os.chdir(folder / "here")
        with trial(folder / "trial") as decoders:
            judged = list(run(decoders, mutants(sound, chosen.seed, chosen.count), chosen.threads))
            left = decoders.left_behind()
        left += decoders.left_behind() + [path.name for path in Path().iterdir()]
        os.chdir(keep.anchor)
    findings = [(one, outcome) for one, outcome in judged if not outcome.verdict.sound]
    for one, outcome in findings:
        keep_finding(keep, chosen.seed, one, outcome)
    print(f"seed {chosen.seed}, {len(judged):,} files in {time.monotonic() - began:.0f} s\n")
    show(judged, left)
    if findings or left:
        sys.exit(f"\n{len(findings)} findings, kept in {keep}; {len(left)} files left behind: {left[:10]}")


def mutants(sound: dict[str, bytes], seed: int, count: int) -> Iterator[Mutant]:
    turns: Counter[str] = Counter()
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        yield mutant(sound, kind, seed=seed, number=turns[kind])
        turns[kind] += 1


def run(decoders: Trial, made: Iterator[Mutant], threads: int) -> Iterator[Judged]:
    """Some hundreds at a time, so that memory holds no more of them."""
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(made, 400)):
            outcomes = pool.map(lambda one: decoders.run(one.data, f"{one.kind}-{one.number}"), batch)
            yield from zip(batch, outcomes, strict=True)


def keep_finding(folder: Path, seed: int, one: Mutant, outcome: Outcome) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{seed}-{one.kind}-{one.number}"
    (folder / f"{stem}.bin").write_bytes(one.data)
    (folder / f"{stem}.txt").write_text(f"{one}\n{outcome}\n", "utf-8")


def show(judged: list[Judged], left: list[str]) -> None:
    print(f"{'kind':16}{'files':>8}" + "".join(f"{verdict.value:>13}" for verdict in Verdict))
    for kind in (*PLAIN, *ZIPPED):
        row(kind, Counter(outcome.verdict for one, outcome in judged if one.kind == kind))
    row("all", Counter(outcome.verdict for _, outcome in judged))
    print(f"\nfiles left behind: {len(left)}")
    codes = Counter(outcome.code for _, outcome in judged if outcome.verdict is Verdict.REFUSED)
    print("refused by code: " + ", ".join(f"{code} {count}" for code, count in codes.most_common()))
    slowest, outcome = max(judged, key=lambda pair: pair[1].seconds)
    seconds = sorted(outcome.seconds for _, outcome in judged)
    print(f"worst time: {outcome.seconds:.2f} s ({slowest}); median {1000 * seconds[len(seconds) // 2]:.1f} ms")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    limit = LIMITS.address_space_bytes
    print(f"largest decoder: {peak / 2**20:.0f} MiB resident, under a limit of {limit / 2**20:.0f} MiB mapped")


def row(name: str, verdicts: Counter[Verdict]) -> None:
    print(f"{name:16}{verdicts.total():>8,}" + "".join(f"{verdicts[verdict]:>13,}" for verdict in Verdict))


if __name__ == "__main__":
    main()
