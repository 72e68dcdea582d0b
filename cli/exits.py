"""How a command ends: its exit code, and the one line (plus a hint) that says why.

Every error of the client and of the core has its place here; `cli/main.py` is the only caller of `report`.
"""

import sys
from enum import IntEnum

from fleet import errors as core


class Exit(IntEnum):
    """What scripts may rely on; docs/reference/cli.md explains each."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAUTHORIZED = 4
    UNREACHABLE = 5
    STOPPED = 6
    TIMEOUT = 7
    CONFLICT = 8
    LOCAL = 9
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "the job or an import failed, or a check found faults",
    Exit.USAGE: "wrong usage, or the server refused the request as invalid",
    Exit.NOT_FOUND: "no such job, model or upload",
    Exit.UNAUTHORIZED: "the API key is missing or not accepted",
    Exit.UNREACHABLE: "the server, or something it needs, does not answer",
    Exit.STOPPED: "the job was cancelled or has expired",
    Exit.TIMEOUT: "the time given was not enough; the job, or import, goes on",
    Exit.CONFLICT: "not possible in the present state, for instance cancelling an ended job",
    Exit.LOCAL: "something on this machine: a file, the disk, a transfer, a missing extra",
    Exit.INTERRUPTED: "interrupted with Ctrl-C; a submitted job goes on",
}

_HINTS = {
    "connection-failed": "start a stack with `fleet up`, or name your server with --url or FLEET_URL",
    "unauthorized": "set FLEET_API_KEY to a key of this server",
    "forbidden": "this key may not do that",
    "no-capable-worker": "`fleet top` shows who is there; without --refuse-without-worker the job waits",
    "model-not-found": "`fleet models list` shows the models that the fleet can run",
    "model-importing": "`fleet models versions NAME` shows how far it is",
    "model-unloaded": "`fleet models load NAME VERSION` puts it back into service",
    "model-not-ready": "`fleet models status NAME` shows what the workers say",
    "version-exists": "leave --version out to get the next number",
    "version-in-use": "`fleet models alias NAME ALIAS VERSION` points it elsewhere; --force removes it all the same",
    "job-not-ended": "`fleet jobs wait ID` waits for it",
    "job-not-found": "`fleet jobs list` shows your jobs",
    "idempotency-key-reused": "the key stands for another request: choose a new one",
    "unexpected-answer": "name your server with --url or FLEET_URL",
}


class CommandFailed(Exception):
    """A command's own way to end: one line, a hint, and the exit code."""

    def __init__(self, message: str, *, code: str, exit_code: Exit, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.exit_code = exit_code
        self.hint = hint


def report(error: Exception) -> Exit | None:
    """Writes the error to standard error and returns the exit code; None when it is none of ours, hence a bug."""
    exit_code = exit_of(error)
    if exit_code is None:
        return None
    code = getattr(error, "code", "local-error")
    message = str(error) if _is_client_error(error) else getattr(error, "message", None) or str(error)
    hint = getattr(error, "hint", None) or _HINTS.get(code)
    sys.stderr.write(f"fleet: {message if f'{code}]' in message else f'{message} [{code}]'}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
    return exit_code


def exit_of(error: BaseException) -> Exit | None:
    if isinstance(error, CommandFailed):
        return error.exit_code
    if isinstance(error, core.FleetError):
        return _of_core(error)
    if _is_client_error(error):
        return _of_client(error)
    return Exit.LOCAL if isinstance(error, OSError) else None


def _of_core(error: core.FleetError) -> Exit:
    for kind, exit_code in (
        (core.NotFound, Exit.NOT_FOUND),
        (core.Unauthorized, Exit.UNAUTHORIZED),
        (core.InputError, Exit.USAGE),
        (core.Conflict, Exit.CONFLICT),
        (core.DependencyError, Exit.UNREACHABLE),
        (core.ModelError, Exit.FAILED),
    ):
        if isinstance(error, kind):
            return exit_code
    return Exit.LOCAL


def _of_client(error: BaseException) -> Exit:
    import fleet_client as client

    for kind, exit_code in (
        (client.JobFailed, Exit.FAILED),
        (client.ImportFailed, Exit.FAILED),
        (client.JobEnded, Exit.STOPPED),
        (client.InputUnusable, Exit.USAGE),
        (client.InvalidRequest, Exit.USAGE),
        (client.TooLarge, Exit.USAGE),
        (client.NotFound, Exit.NOT_FOUND),
        (client.Unauthorized, Exit.UNAUTHORIZED),
        (client.Forbidden, Exit.UNAUTHORIZED),
        (client.Conflict, Exit.CONFLICT),
        (client.Timeout, Exit.TIMEOUT),
        (client.ConnectionFailed, Exit.UNREACHABLE),
        (client.APIError, Exit.UNREACHABLE),
    ):
        if isinstance(error, kind):
            return exit_code
    return Exit.LOCAL


def _is_client_error(error: BaseException) -> bool:
    # Where the client was never imported, nothing can have come from it.
    client = sys.modules.get("fleet_client")
    return client is not None and isinstance(error, client.FleetError)
