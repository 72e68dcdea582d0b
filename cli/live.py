"""Progress on standard error: a bar on a terminal, a line per change elsewhere."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fleet_client import JobRecord, ModelVersion, Transfer


class Live:
    """Shows one job from its upload to its files. Give its methods as the client's callbacks.

    Nothing is drawn when standard error is not a terminal: there each stage is one line.
    """

    def __init__(self, *, draw: bool = True) -> None:
        """draw: False where standard output is written to at the same time."""
        self._draws = draw
        self._bar: Progress | None = None
        self._rows: dict[str, TaskID] = {}
        self._said = ""

    def __enter__(self) -> "Live":
        if self._draws and sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def transferred(self, transfer: "Transfer") -> None:
        """For `on_upload` and `on_download`."""
        if self._bar is not None and transfer.total:
            self._draw(self._bar, transfer.name, transfer.name, transfer.done / transfer.total)

    def stepped(self, record: "JobRecord") -> None:
        """For `Job.wait`."""
        step = record.state if record.stage is None or record.ended else f"{record.state}: {record.stage}"
        if self._bar is not None:
            self._draw(self._bar, "job", step, record.progress)
        elif step != self._said:
            sys.stderr.write(f"{record.id} {step}\n")
        self._said = step

    def arriving(self, version: "ModelVersion") -> None:
        """For `Client.wait_for_model`."""
        step = f"{version.state}: {version.stage}" if version.stage else version.state
        if self._bar is not None:
            self._draw(self._bar, "model", f"{version.name}@{version.version} {step}", version.progress)
        elif step != self._said:
            sys.stderr.write(f"{version.name}@{version.version} {step}\n")
        self._said = step

    def _draw(self, bar: "Progress", row: str, text: str, done: float) -> None:
        if row not in self._rows:
            self._rows[row] = bar.add_task(text, total=1.0)
        bar.update(self._rows[row], description=text, completed=done)


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
