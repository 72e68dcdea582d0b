"""Following a job to its end, whatever the end is."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exits import Exit
from cli.live import Live
from cli.output import console, note, print_json

if TYPE_CHECKING:
    from fleet_client import Job, JobItem, JobRecord

OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for the job's files; without it none are fetched.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0, metavar="SECONDS", help="Stop waiting after this; the job goes on."),
]
CancelOption = Annotated[
    bool, typer.Option("--cancel-on-interrupt", help="On Ctrl-C cancel the job instead of leaving it to run.")
]


def follow(
    job: "Job", live: Live, *, out: Path | None, timeout_s: float | None, cancel_on_interrupt: bool
) -> list[Path]:
    """Waits for the job and saves its files -> their paths; none when it did not succeed.

    Raises Timeout, and what `Job.save` raises. On Ctrl-C says how to come back and exits.
    """
    try:
        job.wait(live.stepped, timeout=timeout_s, check=False)
        return [] if out is None or job.state != "succeeded" else job.save(out, on_download=live.transferred)
    except KeyboardInterrupt:
        _interrupted(job, cancel=cancel_on_interrupt)
        raise typer.Exit(Exit.INTERRUPTED) from None


def show_end(job: "Job", files: list[Path], *, as_json: bool) -> None:
    """Prints the ended job, and raises JobFailed, JobCancelled or JobExpired where it did not succeed."""
    if as_json:
        print_json(described(job, files))
    else:
        from cli import tables

        console().print(tables.job(job.record, files))
    job.wait()


def show_items(job: "Job", *, timeout_s: float | None, cancel_on_interrupt: bool, as_json: bool) -> None:
    """Prints what became of each of many as they are finished. Raises Timeout, and what `Job.items` raises."""
    try:
        for item in job.items(timeout=timeout_s):
            line = item.model_dump_json(exclude_none=True) if as_json else _told(item)
            typer.echo(line)
            sys.stdout.flush()
    except KeyboardInterrupt:
        _interrupted(job, cancel=cancel_on_interrupt)
        raise typer.Exit(Exit.INTERRUPTED) from None


def _told(item: "JobItem") -> str:
    """A line for people: the answers in few words where they are of a kind that we know."""
    from cli.answers import in_words, one_line

    said = f"{item.error.detail} [{item.error.code}]" if item.error else in_words(item.result or {})
    return one_line(f"{item.name or item.index}: {said}")


def print_event(record: "JobRecord", *, as_json: bool) -> None:
    """One line, at once: whoever reads it may be a program that waits for it."""
    if as_json:
        line = json.dumps(record.model_dump(mode="json"), ensure_ascii=False)
    else:
        stage = "" if record.stage is None or record.ended else f": {record.stage}"
        line = f"{datetime.now():%H:%M:%S} {record.state}{stage} {record.progress:.0%}"  # noqa: DTZ005 (a person's clock)
    typer.echo(line)
    sys.stdout.flush()


def described(job: "Job", files: list[Path] | None = None) -> dict[str, Any]:
    """The record as JSON; `files` are the paths of what was saved."""
    fields = job.record.model_dump(mode="json")
    return fields if files is None else {**fields, "files": [str(path) for path in files]}


def _interrupted(job: "Job", *, cancel: bool) -> None:
    if cancel and not job.ended:
        job.cancel()
        note(f"\ncancelled: job {job.id} is {job.state}")
        return
    note(f"\njob {job.id} goes on; come back with `fleet jobs wait {job.id}`, end it with `fleet jobs cancel {job.id}`")
