"""How a worker process ends, as an exit code that whoever watches it can put into words."""

import faulthandler
import os
import sys
from enum import IntEnum


class ExitCode(IntEnum):
    """docs/how-to/run-workers.md explains each."""

    DRAINED = 0
    FAILED = 1
    BROKEN_PROMISE = 2
    #: Of these the process ends itself, since nothing else could help.
    RUN_STUCK = 70
    HUNG = 71
    NOT_CONSUMING = 72
    GPU_LOST = 73


MEANINGS = {
    ExitCode.DRAINED: "it had drained",
    ExitCode.FAILED: "an error that nobody foresaw",
    ExitCode.BROKEN_PROMISE: "it cannot do what its settings promise",
    ExitCode.RUN_STUCK: "a run did not stop when it was told to",
    ExitCode.HUNG: "its event loop or its lease keeper hung",
    ExitCode.NOT_CONSUMING: "it had stopped taking messages",
    ExitCode.GPU_LOST: "its GPU failed under a run",
}


def end_process(code: ExitCode) -> None:
    """Ends the process at once, without any clean-up; where every thread was goes to standard error first."""
    faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
    os._exit(code)
