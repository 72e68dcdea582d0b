"""The api and the workers as children: our own processes, configured by environment alone."""

import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from cli.stack import probes
from cli.stack.burials import Burials
from cli.stack.child import Launch, Service
from cli.stack.layout import Layout
from cli.stack.pulse_check import PulseCheck, takes_jobs
from fleet.contracts import Lane

API = "api"
_API_HANGS_AFTER_S = 45.0
#: What a worker may take after its drain, see worker/boot/watch.py.
_HAND_BACK_S = 30.0


def worker_name(number: int, lane: Lane) -> str:
    """`worker-1-bulk`: there is one process for each lane, so that a short job is never behind a long one."""
    return f"worker-{number}-{lane.value}"


def api(environment: Mapping[str, str], *, probe_host: str, port: int, workdir: Path) -> Service:
    """Ready when `/readyz` answers 200: PostgreSQL is migrated and the object store answers."""
    return Service(
        API,
        lambda: Launch(_python("api"), environment, workdir),
        ready=lambda _pid: probes.http_answers(probe_host, port, "/readyz"),
        # Not ready may mean that PostgreSQL is away, which a new api would not change.
        vital=lambda _pid: probes.http_answers(probe_host, port, "/livez"),
        hangs_after_s=_API_HANGS_AFTER_S,
        stop=((signal.SIGTERM, 15.0),),
    )


def worker(
    name: str,
    lane: Lane,
    environment: Mapping[str, str],
    layout: Layout,
    *,
    unique_name: str,
    drain_s: float,
    own_scratch: bool,
    metrics_port: int,
    workdir: Path,
    burials: Burials,
) -> Service:
    """Ready when it consumes: it writes its pid to WORKER_READY_FILE. `drain_s` is WORKER_DRAIN_S.

    `name` is that among the children, `unique_name` the one in the record. `metrics_port` 0: none.
    With `own_scratch` its working files lie in the data folder and are cleared before each start.
    """
    ready_file = layout.run / f"{name}.ready"
    scratch = layout.scratch / name
    own = {
        "WORKER_NAME": unique_name,
        "WORKER_LANES": lane.value,
        "WORKER_READY_FILE": str(ready_file),
    }
    if own_scratch:
        own["WORKER_SCRATCH"] = str(scratch)
    if metrics_port:
        own["WORKER_METRICS_PORT"] = str(metrics_port)

    def prepare() -> Launch:
        # What a killed worker left: its job runs again from the start.
        ready_file.unlink(missing_ok=True)
        if own_scratch:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(mode=0o700, parents=True)
        return Launch(_python("worker"), {**environment, **own}, workdir)

    return Service(
        name,
        prepare,
        ready=lambda pid: takes_jobs(ready_file, pid),
        vital=PulseCheck(ready_file),
        # It hands its running jobs back by itself after the drain, and ends itself when it cannot.
        stop=((signal.SIGTERM, drain_s + _HAND_BACK_S),),
        ended=lambda pid, code, how: burials.bury(unique_name, pid, code, how),
    )


def _python(module: str) -> list[str]:
    """`-P`: the working folder, which `.env` is read from, may well have an `api` or a `worker` of its own."""
    return [sys.executable, "-P", "-m", module]
