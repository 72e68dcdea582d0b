"""Which processes `fleet work` starts: one for each device and lane, told by their environment alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.devices import WorkDevice
from fleet.contracts import Lane, Pool
from fleet.cpus import usable_cpus
from fleet.errors import ValidationFailed
from fleet.settings import Settings
from worker.concurrency import default_concurrency

_MOST_AT_ONCE = 256


@dataclass(frozen=True)
class PlannedProcess:
    """`environment` goes on top of that of `fleet work`."""

    name: str
    device: WorkDevice
    lane: Lane
    concurrency: int
    environment: Mapping[str, str]


def plan_processes(
    settings: Settings, devices: Sequence[WorkDevice], name: str, ready_file: Path, at_once: Mapping[Lane, int]
) -> list[PlannedProcess]:
    """`name` and `ready_file` are those of the whole; each process gets its own, made from them.

    `at_once` outranks the settings for the lanes that it has.
    """
    planned: list[PlannedProcess] = []
    gpus = sum(device.pool is Pool.GPU for device in devices)
    for device in devices:
        for lane in dict.fromkeys(settings.worker_lanes):
            suffix = f"{device.label}-{lane.value}"
            concurrency = (
                at_once.get(lane)
                or settings.worker_concurrency
                or default_concurrency([lane], device.pool, usable_cpus())
            )
            told = {
                **device.environment,
                "WORKER_NAME": _with_suffix(name, suffix),
                "WORKER_LANES": lane.value,
                "WORKER_CONCURRENCY": str(concurrency),
                "WORKER_READY_FILE": f"{ready_file}-{suffix}",
            }
            if settings.worker_scratch is not None:
                told["WORKER_SCRATCH"] = str(settings.worker_scratch / suffix)
            if settings.worker_metrics_port:
                told["WORKER_METRICS_PORT"] = str(settings.worker_metrics_port + len(planned))
            if gpus > 1 and not settings.onnx_intra_op_threads:
                # What a GPU leaves to the processor is shared among them.
                told["ONNX_INTRA_OP_THREADS"] = str(max(1, usable_cpus() // gpus))
            planned.append(PlannedProcess(told["WORKER_NAME"], device, lane, concurrency, told))
    return planned


def parse_concurrency(text: str | None) -> dict[Lane, int]:
    """`16` for each lane, or `interactive=16,bulk=2`. Raises ValidationFailed `invalid-concurrency`."""
    if text is None:
        return {}
    found: dict[Lane, int] = {}
    for part in text.split(","):
        lane, equals, count = part.strip().rpartition("=")
        known = lane in list(Lane) if equals else "," not in text
        if not known or not count.isdecimal() or not 1 <= int(count) <= _MOST_AT_ONCE:
            raise ValidationFailed(
                f"--concurrency {text!r} must be a number from 1 to {_MOST_AT_ONCE}, or like interactive=16,bulk=2",
                code="invalid-concurrency",
            )
        found |= dict.fromkeys([Lane(lane)] if equals else Lane, int(count))
    return found


def _with_suffix(name: str, suffix: str) -> str:
    """Before the host, where the name has one."""
    own, at, host = name.partition("@")
    return f"{own}-{suffix}{at}{host}"
