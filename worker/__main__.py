"""`fleet work`: one worker process for the device at hand, until SIGTERM or SIGINT drains it.

The same as `celery --app worker.app worker`, with a name, and without Celery's banner.
"""

import os
import sys
import warnings

from fleet.errors import FleetError
from fleet.logs import configure_logs, get_logger
from fleet.settings import read_settings
from worker.names import worker_name


def main() -> None:
    """Ends the process: 0 after a drain, 2 when the worker cannot keep its promise."""
    try:
        settings = read_settings()
    except FleetError as error:
        sys.stderr.write(f"fleet work: {error.message}\n")
        sys.exit(2)
    configure_logs(settings)
    for name in settings.unknown_names():
        get_logger(__name__).warning("unknown name in .env", name=name)
    from celery.bin.celery import celery
    from celery.platforms import SecurityWarning

    # Celery warns superusers of pickled messages; ours are JSON and carry two ids.
    warnings.simplefilter("ignore", SecurityWarning)
    command = ["--app=worker.app", "--quiet", "worker", f"--hostname={worker_name(settings, os.getpid())}"]
    celery.main([*command, "--without-gossip", "--without-mingle", f"--loglevel={settings.log_level}"])


if __name__ == "__main__":
    main()
