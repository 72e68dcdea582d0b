"""The progress that `wait(progress=True)` shows: one line on standard error."""

import sys
from typing import TextIO

from fleet_client.records import JobRecord


class ProgressLine:
    """Call it with every record. On a terminal the line is redrawn, elsewhere each change of stage is one line."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._shown = ""
        self._step = ""

    def __call__(self, record: JobRecord) -> None:
        step = record.state if record.stage is None or record.ended else record.stage
        line = f"{record.model or 'job'} {record.id}: {step} {record.progress:4.0%}"
        if self._out.isatty():
            self._out.write("\r" + line.ljust(len(self._shown)) + ("\n" if record.ended else ""))
        elif step != self._step:
            self._out.write(line + "\n")
        self._out.flush()
        self._shown, self._step = line, step
