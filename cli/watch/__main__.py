"""`fleet work`, once it has its plan: `python -m cli.watch --process JSON ... [--ready-file FILE] [--json]`.

Each `--process` is what one worker process is told by its environment, on top of ours.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cli.stack.burials import Burials
from cli.stack.child import Child, Launch, Service
from cli.stack.pulse_check import PulseCheck, takes_jobs
from cli.watch.shared_pulse import SharedPulse
from cli.watch.watched import Tell, WatchedProcess
from cli.watch.watcher import Watcher


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--process", type=json.loads, action="append", required=True)
    options.add_argument("--ready-file", type=Path)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    burials = Burials(os.environ, Path.cwd(), quiet=False)

    def tell(event: str, **facts: object) -> None:
        sys.stderr.write(_line(event, facts, as_json=chosen.json) + "\n")
        sys.stderr.flush()

    processes = [WatchedProcess(Child(_service(told, burials, tell), None), tell) for told in chosen.process]
    code = Watcher(processes, burials, tell, SharedPulse(chosen.ready_file)).run()
    for told in chosen.process:
        Path(told["WORKER_READY_FILE"]).unlink(missing_ok=True)
    return code


def _service(told: Mapping[str, str], burials: Burials, tell: Tell) -> Service:
    name, ready_file = told["WORKER_NAME"], Path(told["WORKER_READY_FILE"])

    def prepare() -> Launch:
        ready_file.unlink(missing_ok=True)
        return Launch([sys.executable, "-P", "-m", "worker"], {**os.environ, **told}, Path.cwd())

    def ended(pid: int, code: int, how: str) -> None:
        tell("worker ended", worker=name, pid=pid, code=code, how=how)
        burials.bury(name, pid, code, how)

    return Service(
        name,
        prepare,
        ready=lambda pid: takes_jobs(ready_file, pid),
        vital=PulseCheck(ready_file),
        ended=ended,
    )


def _line(event: str, facts: dict[str, object], *, as_json: bool) -> str:
    """Like those of the workers, whose logs this one goes between."""
    moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    level = "info" if event == "worker started" or facts.get("code") == 0 else "warning"
    if as_json:
        return json.dumps({**facts, "event": event, "level": level, "logger": "cli.watch", "timestamp": moment})
    return " ".join([moment, f"[{level}]", event, *(f"{name}={value}" for name, value in facts.items())])


if __name__ == "__main__":
    sys.exit(main())
