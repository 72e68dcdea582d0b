"""`fleet jobs`: find, follow, cancel, retry, fetch and delete jobs."""

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.connection import DataOption, UrlOption, connect
from cli.exits import CommandFailed, Exit
from cli.following import (
    CancelOption,
    OutOption,
    TimeoutOption,
    described,
    follow,
    print_event,
    show_end,
    show_items,
)
from cli.live import Live
from cli.output import JsonOption, assignments, console, note, print_json, shown_path
from fleet.contracts import PriorityName, ShownState

if TYPE_CHECKING:
    from fleet_client import Job

app = typer.Typer(help="Find, follow, retry, fetch and delete jobs.", no_args_is_help=True, add_completion=False)

JobId = Annotated[str, typer.Argument(metavar="ID", help="As `fleet submit` and `fleet jobs list` print it.")]


@app.command("list")
def list_jobs(
    *,
    state: Annotated[ShownState | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m")] = None,
    task: Annotated[str | None, typer.Option()] = None,
    priority: Annotated[PriorityName | None, typer.Option()] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """List your jobs, newest first."""
    with connect(url, data) as client:
        found = client.jobs(
            state=state.value if state else None,
            model=model,
            task=task,
            priority=priority.value if priority else None,
            labels=assignments(label or [], "--label"),
            page_size=min(limit, 100),
        )
        jobs = list(islice(found, limit))
    if as_json:
        print_json([described(job) for job in jobs])
    elif jobs:
        from cli import tables

        console().print(tables.job_list(job.record for job in jobs))
    else:
        note("no jobs")


@app.command()
def show(job_id: JobId, as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None) -> None:
    """Show one job: state, result, where it ran, and where its time went."""
    with connect(url, data) as client:
        job = client.job(job_id)
    if as_json:
        print_json(described(job))
    else:
        from cli import tables

        console().print(tables.job(job.record))


@app.command()
def wait(
    job_id: JobId,
    *,
    out: OutOption = None,
    timeout: TimeoutOption = None,
    cancel_on_interrupt: CancelOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Follow a job to its end, and save its files with -o."""
    with connect(url, data, tries_again=5) as client, Live() as live:
        job = client.job(job_id)
        files = follow(job, live, out=out, timeout_s=timeout, cancel_on_interrupt=cancel_on_interrupt)
    show_end(job, files, as_json=as_json)


@app.command()
def events(
    job_id: JobId,
    *,
    timeout: TimeoutOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Each line is the job as JSON.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Print a line whenever the job has changed, from how it is now up to its end."""
    with connect(url, data, tries_again=5) as client:
        for record in client.job(job_id).events(timeout=timeout):
            print_event(record, as_json=as_json)


@app.command()
def items(
    job_id: JobId,
    *,
    timeout: TimeoutOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Each line is an item as JSON.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Print what became of each picture of a job of many, as they are finished, up to the end of the job."""
    with connect(url, data, tries_again=5) as client:
        show_items(client.job(job_id), timeout_s=timeout, cancel_on_interrupt=False, as_json=as_json)


@app.command()
def cancel(job_id: JobId, as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None) -> None:
    """Cancel a job. A running one is `cancelling` until its worker has stopped; `fleet jobs wait` sees the end."""
    with connect(url, data) as client:
        job = client.job(job_id).cancel()
    if as_json:
        print_json(described(job))
    else:
        typer.echo(f"{job.id} {job.state}")


@app.command()
def result(job_id: JobId, url: UrlOption = None, data: DataOption = None) -> None:
    """Print the result of a job that succeeded, as JSON."""
    with connect(url, data) as client:
        value = _ended(client.job(job_id)).result()
    print_json(value)


@app.command()
def save(
    job_id: JobId,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files; made when missing.")],
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Save the files of a job that succeeded."""
    with connect(url, data, tries_again=5) as client, Live() as live:
        job = _ended(client.job(job_id))
        files = job.save(out, on_download=live.transferred)
    if as_json:
        print_json(described(job, files))
    else:
        for path in files:
            typer.echo(shown_path(path))


@app.command()
def retry(
    job_id: JobId,
    *,
    deadline: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="From now; else as long as it had at first.")
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Queue a job once more that failed, was cancelled or has expired. It keeps its id."""
    with connect(url, data) as client:
        job = client.job(job_id).retry(deadline)
    if as_json:
        print_json(described(job))
    else:
        typer.echo(f"{job.id} {job.state}")


@app.command()
def delete(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `fleet jobs list` prints them.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Delete jobs for good, with their results and with the inputs that no other job uses. Running ones are stopped."""
    with connect(url, data) as client:
        # All of them are looked up before the first is deleted: a mistyped id deletes nothing.
        jobs = [client.job(job_id) for job_id in dict.fromkeys(job_ids)]
        if not yes:
            _confirm(jobs)
        deleted = []
        for job in jobs:
            gone = job.delete()
            deleted.append({"id": job.id, "gone": gone})
            if not as_json:
                typer.echo(f"{job.id} deleted" + ("" if gone else "; what it stored goes as soon as it has stopped"))
    if as_json:
        print_json(deleted)


def _confirm(jobs: "list[Job]") -> None:
    if not sys.stdin.isatty():
        raise CommandFailed(
            "deleting asks first, and nobody is there to answer",
            code="confirmation-needed",
            exit_code=Exit.USAGE,
            hint="say --yes",
        )
    for job in jobs:
        note(f"{job.id} {job.record.model} {job.state}")
    which = "this job" if len(jobs) == 1 else f"these {len(jobs)} jobs"
    typer.confirm(f"Delete {which} for good?", abort=True, err=True)


def _ended(job: "Job") -> "Job":
    if not job.ended:
        raise CommandFailed(
            f"job {job.id} is still {job.state}",
            code="job-not-ended",
            exit_code=Exit.CONFLICT,
            hint=f"`fleet jobs wait {job.id}` waits for it",
        )
    return job
