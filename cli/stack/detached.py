"""Starts a supervisor that outlives the command that asked for it."""

import json
import subprocess
import sys

from cli.stack.layout import Layout
from cli.stack.logs import open_log, tail
from cli.stack.request import Request
from cli.stack.status import StackStatus, read_status
from fleet.errors import Conflict, DependencyError, FleetError


def start_detached(request: Request) -> StackStatus:
    """Returns once the stack answers. Raises what the start raised; Ctrl-C meanwhile ends it."""
    layout = Layout(request.data)
    layout.create()
    errors = open_log(layout.supervisor_log)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "cli.stack"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    ) as supervisor:
        try:
            told = _start(supervisor, request)
        except BaseException:
            supervisor.terminate()
            raise
        status = read_status(layout.status_file)
        if told == {} and status is not None:
            # It is nobody's child from here on, and needs no waiting for.
            supervisor.returncode = 0
            return status
    if not told:
        raise DependencyError(
            f"the supervisor ended with code {supervisor.returncode}; its log ends:\n{tail(layout.supervisor_log)}",
            code="supervisor-ended",
        )
    kind: type[FleetError] = Conflict if told["data_in_use"] else DependencyError
    raise kind(str(told["message"]), code=str(told["code"]))


def _start(supervisor: subprocess.Popen[str], request: Request) -> dict[str, object] | None:
    """What it says on stdout, None when it ended without a word."""
    if supervisor.stdin is None or supervisor.stdout is None:
        raise ValueError("the supervisor must be started with pipes")
    supervisor.stdin.write(request.model_dump_json())
    supervisor.stdin.close()
    line = supervisor.stdout.readline()
    return json.loads(line) if line.strip() else None
