"""Tells the record how a worker process ended: `python -m cli.stack.burial WORKER PID HOW`.

A process of its own, so that whoever watches workers stays small and is never held up by a record that is away. It
tries for two minutes; the lease of a worker that nobody buried lapses by itself.
"""

import sys
import time

from fleet.database import Database
from fleet.errors import DependencyError
from fleet.jobs import JobStore
from fleet.logs import configure_logs, get_logger
from fleet.settings import read_settings

_PATIENCE_S = 120.0


def main() -> int:
    worker, pid, how = sys.argv[1:]
    settings = read_settings()
    configure_logs(settings)
    log = get_logger("cli.stack.burial").bind(worker=worker, pid=int(pid), how=how)
    give_up_at, pause_s = time.monotonic() + _PATIENCE_S, 0.5
    with Database(settings.database_dsn, max_connections=1) as database:
        while True:
            try:
                jobs = JobStore(database).bury(worker, int(pid), how)
            except DependencyError as error:
                if time.monotonic() + pause_s > give_up_at:
                    log.warning("worker not buried", code=error.code)
                    return 1
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)
            else:
                log.info("worker buried", jobs=[str(job) for job in jobs])
                return 0


if __name__ == "__main__":
    sys.exit(main())
