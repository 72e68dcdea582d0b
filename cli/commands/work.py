"""`fleet work`: a worker of this machine, in the foreground, and a watcher over it."""

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from cli.extras import needs


def work() -> None:
    """Run a worker in the foreground and watch it: what crashes or hangs is started again.

    Settings come from the environment and .env. SIGTERM or Ctrl-C drains; a second one drains at once.

    Exit codes: 0 drained, 2 the settings or the device cannot be used; else that of the worker.
    """
    from fleet.errors import FleetError
    from fleet.settings import read_settings
    from worker.names import worker_name

    with needs("worker", "running workers"):
        for package in ("celery", "onnxruntime"):
            if find_spec(package) is None:
                raise ModuleNotFoundError(package, name=package)
    try:
        settings = read_settings()
    except FleetError as error:
        sys.stderr.write(f"fleet work: {error.message}\n")
        sys.exit(2)
    name = worker_name(settings, os.getpid())
    ready_file = settings.worker_ready_file or Path(tempfile.gettempdir(), f"fleet-{os.getpid()}.ready")
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    watch = [sys.executable, "-P", "-m", "cli.watch", "--worker", name, "--ready-file", str(ready_file.absolute())]
    # In the place of this process: the watcher stays for weeks, and needs none of what the command has loaded.
    os.execv(sys.executable, [*watch, *(["--json"] if as_json else [])])  # noqa: S606 (a list, and no shell)
