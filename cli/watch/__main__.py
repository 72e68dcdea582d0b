"""`fleet work`, once it has read its settings: `python -m cli.watch --worker NAME --ready-file FILE [--json]`."""

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from cli.stack.burials import Burials
from cli.stack.child import Child, Launch, Service
from cli.stack.pulse_check import PulseCheck, takes_jobs
from cli.watch.watcher import Watcher


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--worker", required=True)
    options.add_argument("--ready-file", type=Path, required=True)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    ready_file: Path = chosen.ready_file
    workdir = Path.cwd()
    environment = {**os.environ, "WORKER_NAME": chosen.worker, "WORKER_READY_FILE": str(ready_file)}
    burials = Burials(environment, workdir, quiet=False)

    def prepare() -> Launch:
        ready_file.unlink(missing_ok=True)
        return Launch([sys.executable, "-P", "-m", "worker"], environment, workdir)

    def tell(event: str, **facts: object) -> None:
        sys.stderr.write(_line(event, facts, as_json=chosen.json) + "\n")
        sys.stderr.flush()

    def ended(pid: int, code: int, how: str) -> None:
        tell("worker ended", pid=pid, code=code, how=how)
        burials.bury(chosen.worker, pid, code, how)

    service = Service(
        "worker",
        prepare,
        ready=lambda pid: takes_jobs(ready_file, pid),
        vital=PulseCheck(ready_file),
        ended=ended,
    )
    code = Watcher(Child(service, None), burials, tell).run()
    ready_file.unlink(missing_ok=True)
    return code


def _line(event: str, facts: dict[str, object], *, as_json: bool) -> str:
    """Like those of the worker, whose log this one goes between."""
    moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    level = "info" if event == "worker started" or facts.get("code") == 0 else "warning"
    if as_json:
        return json.dumps({**facts, "event": event, "level": level, "logger": "cli.watch", "timestamp": moment})
    return " ".join([moment, f"[{level}]", event, *(f"{name}={value}" for name, value in facts.items())])


if __name__ == "__main__":
    sys.exit(main())
