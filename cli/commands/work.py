"""`fleet work`: the workers of this machine, in the foreground, and a watcher over them."""

import json
import os
import sys
import tempfile
from dataclasses import asdict
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.extras import needs
from cli.output import JsonOption, console, print_json

if TYPE_CHECKING:
    from cli.work_plan import PlannedProcess
    from fleet.settings import Settings


class PoolChoice(StrEnum):
    AUTO = "auto"
    GPU = "gpu"
    CPU = "cpu"


def work(
    *,
    pool: Annotated[
        PoolChoice | None, typer.Option(help="Promise this kind of device; auto takes what is here.")
    ] = None,
    lanes: Annotated[str | None, typer.Option(help="interactive, bulk, or both with a comma between.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:0, simulated-gpu, or several with commas between."),
    ] = None,
    concurrency: Annotated[
        str | None, typer.Option(help="Jobs at once in a process: a number, or interactive=16,bulk=2.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be started, and start nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the workers of this machine and watch them: one process for each device and lane.

    What crashes or hangs is started again. Settings come from the environment and .env; the options outrank them.
    SIGTERM or Ctrl-C drains; a second one drains at once.

    Exit codes: 0 drained, 2 the settings or every device cannot be used; else that of a worker that ended badly.
    """
    from fleet.errors import FleetError

    with needs("worker", "running workers"):
        for package in ("celery", "onnxruntime"):
            if find_spec(package) is None:
                raise ModuleNotFoundError(package, name=package)
    try:
        settings, planned, notes = _planned(pool, lanes, device, concurrency)
    except FleetError as error:
        sys.stderr.write(f"fleet work: {error.message}\n")
        sys.exit(2)
    for note in notes:
        sys.stderr.write(f"fleet work: {note}\n")
    if plan:
        _show(planned, as_json=as_json)
        return
    _watch(settings, planned)


def _planned(
    pool: PoolChoice | None, lanes: str | None, device: str | None, concurrency: str | None
) -> tuple["Settings", list["PlannedProcess"], list[str]]:
    """Raises ValidationFailed for settings and options that are wrong, or that contradict each other."""
    from cli.devices import cuda_is_built_in, visible_gpus, work_devices
    from cli.work_plan import parse_concurrency, plan_processes
    from fleet.errors import ValidationFailed
    from fleet.settings import read_settings
    from worker.names import worker_name

    asked = [word for word in (part.strip() for part in (device or "").split(",")) if word and word != "auto"]
    told: dict[str, Any] = {} if lanes is None else {"worker_lanes": lanes}
    if device is not None or pool is not None:
        # What the environment says of either must not contradict the one that was given.
        told |= {"worker_pool": (pool or PoolChoice.AUTO).value, "inference_device": "auto"}
    if device is None and pool is PoolChoice.GPU and read_settings().simulated_gpu:
        told["inference_device"] = "simulated-gpu"
    for word in asked:
        kind = word.partition(":")[0]
        if kind in ("cpu", "cuda", "simulated-gpu"):
            read_settings(**{**told, "inference_device": kind})
    settings = read_settings(**told)
    if not settings.worker_lanes:
        raise ValidationFailed("no lane is named: give interactive, bulk, or both", code="invalid-settings")
    gpus = visible_gpus(os.environ)
    devices, notes = work_devices(settings, asked, gpus, cuda_built_in=cuda_is_built_in())
    name = worker_name(settings, os.getpid())
    ready_file = settings.worker_ready_file or Path(tempfile.gettempdir(), f"fleet-{os.getpid()}.ready")
    planned = plan_processes(settings, devices, name, ready_file.absolute(), parse_concurrency(concurrency))
    for process in planned:
        # A name that has become too long, or a port too high, is said here and not by one process of several.
        read_settings(**{name.lower(): value for name, value in process.environment.items()})
    return settings, planned, notes


def _show(planned: list["PlannedProcess"], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(process) for process in planned])
        return
    from rich.table import Table

    table = Table("worker", "device", "lane", "at once", "is told besides", box=None)
    shown = ("WORKER_NAME", "WORKER_LANES", "WORKER_CONCURRENCY")
    for process in planned:
        told = " ".join(f"{name}={value}" for name, value in process.environment.items() if name not in shown)
        table.add_row(process.name, process.device.about, process.lane.value, str(process.concurrency), told)
    console().print(table)


def _watch(settings: "Settings", planned: list["PlannedProcess"]) -> None:
    """In the place of this process: the watcher stays for weeks, and needs none of what the command has loaded."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    argv = [sys.executable, "-P", "-m", "cli.watch", *(["--json"] if as_json else [])]
    if settings.worker_ready_file is not None:
        argv += ["--ready-file", str(settings.worker_ready_file.absolute())]
    for process in planned:
        # No secrets in it: who looks at the list of processes sees what each was told.
        argv += ["--process", json.dumps(dict(process.environment))]
    os.execv(sys.executable, argv)  # noqa: S606 (a list, and no shell)
