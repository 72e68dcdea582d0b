"""`fleet down`: an orderly stop of the stack on a data folder."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.output import note

STILL_RUNNING = 1


def down(
    data: Annotated[Path, typer.Option(help="Data folder of the stack.")] = Path("~/.local/share/fleet"),
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for running jobs to be handed back and all to end.")
    ] = 180.0,
) -> None:
    """Stop the local stack: workers first, then the API, S3, PostgreSQL and the broker. The data stay.

    Exit codes: 0 it has stopped or nothing ran, 1 it has not within the timeout.
    """
    from cli.stack import identity
    from cli.stack.layout import Layout
    from cli.stack.status import read_status

    layout = Layout(data)
    found = read_status(layout.status_file)
    if found is None or not found.alive:
        _end_leftovers(layout.root)
        return
    os.kill(found.pid, signal.SIGTERM)
    note("stopping ...")
    deadline = time.monotonic() + timeout
    while identity.is_running(found.pid, found.started):
        if time.monotonic() > deadline:
            note(f"fleet: supervisor {found.pid} has not ended after {timeout:.0f} s: see {layout.supervisor_log}")
            raise typer.Exit(STILL_RUNNING)
        time.sleep(0.05)
    note("stopped")


def _end_leftovers(root: Path) -> None:
    """After a crash of the supervisor; the lock says that there is none."""
    from cli.stack.layout import Layout
    from cli.stack.lock import DataLock
    from cli.stack.reap import reap

    layout = Layout(root)
    ended = []
    if layout.pids_file.exists():
        lock = DataLock(layout.lock_file)
        lock.take()
        ended = reap(layout.pids_file)
        lock.release()
    if ended:
        note(f"no supervisor ran on {layout.root}; ended what it had left: {', '.join(ended)}")
    else:
        note(f"no stack runs on {layout.root}")
