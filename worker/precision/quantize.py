"""From one version of a model to another in shorter numbers: made, compared, and kept only if the two agree.

The new version appears whole or not at all: it is made in a hidden folder beside the others, and renamed at the end.
"""

import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from fleet.cpus import usable_cpus
from fleet.errors import Conflict, FleetError, ModelError, NotFound, ValidationFailed
from fleet.objects import file_digest
from fleet.settings import CPU_PROVIDER
from worker.contract import Array
from worker.engine.derivation import origin_of
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.model_version import ModelVersion
from worker.engine.session import Session, SessionSetup
from worker.precision.comparison import Comparison, OutputReport
from worker.precision.convert import Precision, convert
from worker.precision.feeds import Feeds, random_samples, read_feeds
from worker.precision.report import Report, Side, notes_on_gain, now
from worker.stop import StopToken
from worker.tasks import find_tasks

#: Root mean square of the differences, relative to the outputs.
ALLOWED = {Precision.FP16: 0.01, Precision.INT8_DYNAMIC: 0.15, Precision.INT8_STATIC: 0.15}
#: Seconds of runs of both together, once each input was run.
_MEASURE_S = 3.0
_MOST_PAIRS = 200
_MOST_SAMPLES = 1000


def quantize(
    folder: Path,
    to: Precision,
    *,
    version: int | None = None,
    out: int | None = None,
    calibration: Path | None = None,
    inputs: Path | None = None,
    max_disagreement: float | None = None,
    providers: Sequence[str] = (CPU_PROVIDER,),
) -> Report:
    """Makes version `out` (the next free one) from `version` (the highest), both run and compared on `inputs`.

    Without `inputs` they are compared on random ones, which the report says. When the report does not agree nothing is
    written. Raises NotFound, Conflict `version-exists`, ValidationFailed `calibration-needed`, `several-graphs` or
    `invalid-feeds`, and
    ModelError when the folder is no model's, the graph cannot be converted, or does not fit its task any more.
    """
    source, number = _versions(folder, version, out)
    if to is Precision.INT8_STATIC and calibration is None:
        raise ValidationFailed(
            "int8-static needs real inputs to find the ranges of the layers by: --calibration DIR|NPZ",
            code="calibration-needed",
        )
    if len(source.graphs) > 1:
        raise ValidationFailed(
            f"{source.key} is {len(source.graphs)} graphs, and one at a time is converted: put each into a folder of "
            "its own, with `task: tensors`, and the new ones together again",
            code="several-graphs",
        )
    setup = _setup(source, providers)
    before = Session(source.graph, setup, alone=lambda: False)
    scratch = Path(tempfile.mkdtemp(prefix=".quantize-", dir=folder))
    try:
        made = replace(source, version=number, folder=scratch)
        target = scratch / source.manifest.graph
        target.parent.mkdir(parents=True, exist_ok=True)
        convert(source.graph, target, to, read_feeds(calibration, before.inputs) if calibration else ())
        after = Session(made.graph, setup, alone=lambda: False)
        _refuse_other_tensors(before, after)
        _refuse_other_task(made, after, setup)
        samples = read_feeds(inputs, before.inputs) if inputs else iter(random_samples(before.inputs))
        measured = _compared(before, after, samples)
        old = Side(source.version, file_digest(source.graph), source.size_bytes, measured.before_s)
        new = Side(number, file_digest(made.graph), made.size_bytes, measured.after_s)
        report = Report(
            model=source.name,
            to=to,
            before=old,
            after=new,
            outputs=measured.outputs,
            samples=measured.samples,
            inputs=inputs.name if inputs else "random",
            calibration=calibration.name if calibration else "",
            provider=after.provider,
            threads=setup.intra_op_threads,
            allowed=ALLOWED[to] if max_disagreement is None else max_disagreement,
            origin_sha256=origin_of(source.folder, old.graph_sha256),
            notes=_notes(source, to, after.provider, random=inputs is None) + notes_on_gain(old, new),
            made_at=now(),
        )
        if report.agrees:
            report.write(scratch)
            # mkdtemp's folder is its maker's alone.
            scratch.chmod(source.folder.stat().st_mode & 0o777)
            _publish(scratch, folder / str(number))
        return report
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _versions(folder: Path, version: int | None, out: int | None) -> tuple[ModelVersion, int]:
    versions = {found.version: found for found in read_versions(folder, find_tasks())}
    source = versions.get(version or max(versions))
    if source is None:
        have = ", ".join(map(str, versions))
        raise NotFound(f"{folder.name} has no version {version}; it has {have}", code="model-not-found")
    taken = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
    number = out or max(taken) + 1
    if (folder / str(number)).exists():
        raise Conflict(f"{folder.name} has a version {number} already: choose another --out", code="version-exists")
    return source, number


def _setup(source: ModelVersion, providers: Sequence[str]) -> SessionSetup:
    options = source.manifest.onnx
    return SessionSetup(
        providers=list(providers),
        intra_op_threads=usable_cpus(),
        spin=False,
        graph_optimization=options.graph_optimization,
        config=options.session_config,
    )


@dataclass(frozen=True)
class _Measured:
    outputs: tuple[OutputReport, ...]
    before_s: float
    after_s: float
    samples: int


def _compared(before: Session, after: Session, samples: Iterator[Feeds]) -> _Measured:
    """Each in turn, so that what else this machine does slows down both."""
    feeds = next(samples, None)
    if feeds is None:
        raise ValidationFailed("there is nothing to compare the two on: the inputs are empty", code="invalid-feeds")
    comparison, first, count = Comparison(), feeds, 0
    # The first run of a session also makes what later ones find.
    old_s, new_s, _, _ = _pair(before, after, first)
    for feeds in chain([first], islice(samples, _MOST_SAMPLES - 1)):
        old_s, new_s, old, new = _pair(before, after, feeds, old_s, new_s)
        comparison.add(old, new)
        count += 1
    end = time.monotonic() + _MEASURE_S
    for _ in range(_MOST_PAIRS - count):
        if time.monotonic() > end:
            break
        old_s, new_s, _, _ = _pair(before, after, first, old_s, new_s)
    return _Measured(comparison.reports(), old_s, new_s, count)


def _pair(
    before: Session, after: Session, feeds: Feeds, old_s: float = math.inf, new_s: float = math.inf
) -> tuple[float, float, Mapping[str, Array], Mapping[str, Array]]:
    """Runs both; the seconds are those of the fastest runs so far."""
    began = time.perf_counter()
    old = before.run(feeds, StopToken())
    middle = time.perf_counter()
    new = after.run(feeds, StopToken())
    return min(old_s, middle - began), min(new_s, time.perf_counter() - middle), old, new


def _refuse_other_tensors(before: Session, after: Session) -> None:
    for old, new in chain(
        zip(before.inputs, after.inputs, strict=True), zip(before.outputs, after.outputs, strict=True)
    ):
        if (old.name, old.dtype, len(old.shape)) != (new.name, new.dtype, len(new.shape)):
            raise ModelError(
                f"the new graph's {new.name!r} ({new.dtype}, {new.shape}) is not as {old.name!r} was",
                code="quantization-failed",
            )


def _refuse_other_task(made: ModelVersion, after: Session, setup: SessionSetup) -> None:
    try:
        faults = list(made.task.check(LoadedModel(made, after, setup).for_run(StopToken())))
    except FleetError as error:
        faults = [error.message]
    if faults:
        raise ModelError(
            f"the new graph does not fit the task {made.task.name}: {'; '.join(faults)}", code="quantization-failed"
        )


def _notes(source: ModelVersion, to: Precision, provider: str, *, random: bool) -> tuple[str, ...]:
    notes = []
    if random:
        notes.append(
            "compared on random inputs, which say little of how it does on real ones: give those with --inputs"
        )
    if to is Precision.FP16 and provider == CPU_PROVIDER:
        notes.append("measured on a processor, which computes in float32 all the same: float16 is fast on GPUs")
    policy = source.manifest.versions
    if policy.specific is not None or policy.latest == 1:
        notes.append("model.yaml says which versions are served (`versions`): look whether this one and the old are")
    return tuple(notes)


def _publish(scratch: Path, target: Path) -> None:
    try:
        scratch.rename(target)
    except OSError as error:
        raise Conflict(
            f"version {target.name} of {target.parent.name} has appeared meanwhile", code="version-exists"
        ) from error
