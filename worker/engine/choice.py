"""Which way of running a graph is fastest here: each is tried once, compared with the CPU, and remembered."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

import onnxruntime as ort

from fleet.errors import FleetError
from fleet.logs import get_logger
from worker.contract import Array
from worker.engine.agreement import worst
from worker.engine.cuda_faults import GPU_LOST
from worker.engine.session import Session, SessionSetup
from worker.stop import StopReason, StopToken

#: Seconds of runs for one candidate, after its first run; and for all of them together, the making included.
_RUNS_S, _ALL_S = 1.0, 60.0
_MOST_RUNS = 200
#: The setup that would have been used without measuring is kept unless another is faster by this much: less is noise.
_GAIN = 1.05
_SHORTER = ("trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable")
log = get_logger(__name__)


@dataclass(frozen=True)
class Trial:
    """What became of one candidate."""

    name: str
    #: Of the fastest run.
    seconds: float | None = None
    #: From the CPU's outputs (see agreement.py).
    disagreement: float | None = None
    #: Why it was not to be taken; empty for those that could be.
    left_out: str = ""


@dataclass(frozen=True)
class Choice:
    """Which of the candidates was taken, by its number, and why."""

    taken: int
    reason: str
    trials: tuple[Trial, ...]
    measured_at: float = 0.0


def candidate_name(setup: SessionSetup) -> str:
    threads = f"{setup.intra_op_threads or 'all'} thread{'' if setup.intra_op_threads == 1 else 's'}"
    return f"{setup.providers[0]}, {threads}, optimization {setup.graph_optimization}"


def choose(
    graph: Path,
    feeds: Mapping[str, Array],
    reference: SessionSetup,
    others: Sequence[SessionSetup],
    *,
    cpu_allowed: bool = True,
) -> Choice:
    """Tries the `reference`, a setup for the CPU, and then the others; `taken` counts them in that order.

    One after another, so that no more than one more session than usual is in memory. What a candidate does wrong
    leaves it out, with the reason. When the reference itself fails nothing can be compared, and the first of the
    others that runs is taken, else the reference. Where the CPU is not allowed it is only compared with.

    Raises NoCapableWorker `gpu-lost` when a run took the device's context with it.
    """
    end = time.monotonic() + _ALL_S
    first, expected = _try(graph, feeds, reference, None, end)
    if not cpu_allowed and not first.left_out:
        first = replace(first, left_out="its author allows no CPU")
    trials = [first]
    for setup in others:
        trial, outputs = _try(graph, feeds, setup, expected, end)
        trials.append(trial)
        del outputs
    running = [(trial.seconds, number) for number, trial in enumerate(trials) if trial.seconds and not trial.left_out]
    if not running:
        return Choice(0, f"nothing could be measured: {first.left_out}", tuple(trials), time.time())
    if expected is None:
        taken = min(number for _, number in running)
        reason = f"the CPU cannot run it ({first.left_out}), so the first that can was taken, unchecked"
        return Choice(taken, reason, tuple(trials), time.time())
    seconds, taken = min(running)
    reason = f"the fastest of {len(running)}"
    if taken != 0 and not first.left_out and first.seconds is not None and first.seconds < seconds * _GAIN:
        seconds, taken = first.seconds, 0
        reason = f"none of {len(running) - 1} others is faster by more than {_GAIN - 1:.0%}"
    return Choice(taken, f"{reason}: {seconds * 1000:.3g} ms a run", tuple(trials), time.time())


def _try(
    graph: Path, feeds: Mapping[str, Array], setup: SessionSetup, expected: Mapping[str, Array] | None, end: float
) -> tuple[Trial, Mapping[str, Array] | None]:
    name = candidate_name(setup)
    if time.monotonic() > end:
        return Trial(name, left_out=f"not tried: the others took {_ALL_S:g} s"), None
    try:
        session = Session(graph, setup, alone=lambda: False)
        if session.provider != setup.providers[0]:
            return Trial(name, left_out=session.fallback), None
        with _ended_at(end) as stop:
            outputs = session.run(feeds, stop)
            seconds = _fastest(session, feeds, stop, min(end, time.monotonic() + _RUNS_S))
    except FleetError as error:
        if error.code == GPU_LOST:
            raise
        return Trial(name, left_out=error.message), None
    if expected is None:
        return Trial(name, seconds, None), outputs
    told = setup.provider_options.get(setup.providers[0], {})
    half = any(told.get(option, "0") not in ("0", "false", "False") for option in _SHORTER)
    apart, fault = worst(expected, outputs, half=half)
    return Trial(name, seconds, apart, fault or ""), outputs


@contextmanager
def _ended_at(end: float) -> Iterator[StopToken]:
    """A token that stops what runs at that moment of the monotonic clock."""
    stop = StopToken()
    timer = threading.Timer(max(0.0, end - time.monotonic()), stop.set, [StopReason.EXECUTION_TIMEOUT])
    timer.daemon = True
    timer.start()
    try:
        yield stop
    finally:
        timer.cancel()


def _fastest(session: Session, feeds: Mapping[str, Array], stop: StopToken, end: float) -> float:
    """Of the runs until `end`, at least one: what disturbs a run only makes it slower."""
    fastest = float("inf")
    for _ in range(_MOST_RUNS):
        began = time.perf_counter()
        session.run(feeds, stop)
        fastest = min(fastest, time.perf_counter() - began)
        if time.monotonic() > end:
            break
    return fastest


class Choices:
    """Those of this machine, on disk: one file each, named by all that it depends on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def remembered(self, key: str) -> Choice | None:
        try:
            told = json.loads((self._folder / f"{key}.json").read_text("utf-8"))
            return Choice(**told | {"trials": tuple(Trial(**trial) for trial in told["trials"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("a remembered choice of provider cannot be read: measuring anew", reason=str(error))
            return None

    def remember(self, key: str, choice: Choice) -> None:
        """Whole or not at all; a disk that is full costs the next start a measurement, and no job."""
        path = self._folder / f"{key}.json"
        beside = path.with_suffix(f".{uuid4().hex}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(asdict(choice), indent=1), "utf-8")
            beside.replace(path)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            log.warning("the choice of provider is not remembered", reason=str(error))


def choice_key(model_sha256: str, device_kind: str, setups: Sequence[SessionSetup]) -> str:
    """Changes with the model, the device, ONNX Runtime, the candidates and what they are told."""
    facts = [model_sha256, device_kind, ort.__version__, [asdict(setup) for setup in setups]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()
