"""The supervisor of `fleet up --detach`: reads a Request from stdin, says on stdout how the start went, and stays.

The one line on stdout is `{}` once everything answers, or `{"message", "code", "data_in_use"}`.
"""

import json
import os
import sys

from cli.stack.request import Request
from cli.stack.stack import Stack
from fleet.errors import Conflict, FleetError


def main() -> int:
    request = Request.model_validate_json(sys.stdin.buffer.read())
    ready = False

    def on_ready(_stack: Stack) -> None:
        nonlocal ready
        ready = True
        _tell({})

    try:
        request.run(on_ready)
    except FleetError as error:
        if ready:
            raise
        _tell({"message": error.message, "code": error.code, "data_in_use": isinstance(error, Conflict)})
        return 2
    return 0


def _tell(told: dict[str, object]) -> None:
    """Says it and lets go of the pipe: whoever waits at the other end may leave."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main())
