"""`fleet submit`: one job from files on this machine to files on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.connection import DataOption, UrlOption, connect
from cli.durations import duration_s
from cli.exits import Exit
from cli.expectations import sentence
from cli.following import CancelOption, OutOption, TimeoutOption, described, follow, show_end, show_items
from cli.live import Live
from cli.output import JsonOption, assignments, note, print_json, typed
from fleet.contracts import Lane, PriorityName
from fleet.webhook_values import CallbackBody, JobEvent

if TYPE_CHECKING:
    from fleet_client import Callback, Client, Job


def submit(
    task: Annotated[str, typer.Argument(help="What to do, for instance segmentation.", show_default=False)],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Files, folders of DICOM files or of pictures, URLs of pictures, s3://BUCKET/KEY, or s3://BUCKET/FOLDER/.",
            show_default=False,
        ),
    ] = None,
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="See `fleet models list`.", show_default=False)],
    model_version: Annotated[int | None, typer.Option(min=1, help="Version of the model; else its highest.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="A param of the model; the value as JSON or text."),
    ] = None,
    out: OutOption = None,
    priority: Annotated[PriorityName, typer.Option(help="Which jobs start first.")] = PriorityName.NORMAL,
    lane: Annotated[Lane | None, typer.Option(help="Ask for another lane than the model's own.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="To find the job again.")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="The job expires when it has not ended after this."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Keep it so long after its end, as 45min, 12h or 30d; else as set up."),
    ] = None,
    callback: Annotated[
        str | None, typer.Option(metavar="URL", help="Tell this receiver of the job's end by webhook.")
    ] = None,
    callback_event: Annotated[
        list[JobEvent] | None,
        typer.Option("--callback-event", help="Tell it of this instead; may be repeated.", show_default=False),
    ] = None,
    callback_body: Annotated[
        CallbackBody | None,
        typer.Option(help="What it gets: Fleet's event, or the job in RunPod's form.", show_default="event"),
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating a submit with the same key gives the first job.")
    ] = None,
    refuse_without_worker: Annotated[
        bool, typer.Option("--refuse-without-worker", help="Fail at once when no worker that lives can run it.")
    ] = False,
    items: Annotated[
        bool,
        typer.Option("--items", help="Of many pictures print each one's answer as soon as it is there, a line each."),
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the job's id and leave.")] = False,
    timeout: TimeoutOption = None,
    cancel_on_interrupt: CancelOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Submit a job, follow it to its end, and save its files.

    fleet submit segmentation --model brain-extraction scan.nii.gz -o out/
    """
    if items and (no_wait or out is not None):
        raise typer.BadParameter("it goes neither with --no-wait nor with --out", param_hint="--items")
    params = typed(assignments(param or [], "--param"))
    labels = assignments(label or [], "--label")
    retention_s = None if keep is None else duration_s(keep, "--keep")
    with connect(url, data, tries_again=5) as client, Live(draw=not items) as live:
        job = _submitted(
            client,
            live,
            task=task,
            inputs=inputs or [],
            model=model,
            version=model_version,
            params=params,
            priority=priority.value,
            lane=lane.value if lane else None,
            labels=labels,
            deadline_s=deadline,
            retention_s=retention_s,
            callback=_callback(callback, callback_event or [], callback_body),
            refuse_without_worker=refuse_without_worker,
            idempotency_key=idempotency_key,
        )
        if items:
            show_items(job, timeout_s=timeout, cancel_on_interrupt=cancel_on_interrupt, as_json=as_json)
            return
        if not no_wait:
            files = follow(job, live, out=out, timeout_s=timeout, cancel_on_interrupt=cancel_on_interrupt)
    if not no_wait:
        show_end(job, files, as_json=as_json)
    elif as_json:
        print_json(described(job))
    else:
        typer.echo(job.id)
        if job.record.forecast is not None and (told := sentence(job.record.forecast)):
            note(told)


def _submitted(client: "Client", live: Live, **request: object) -> "Job":
    try:
        return client.submit(on_upload=live.transferred, **request)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        note("\ninterrupted while sending: most likely no job was made; `fleet jobs list` shows it")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _callback(url: str | None, events: list[JobEvent], body: CallbackBody | None) -> "Callback | None":
    if url is None:
        for option, given in (("--callback-event", events), ("--callback-body", body)):
            if given:
                raise typer.BadParameter("it needs --callback URL", param_hint=option)
        return None
    from fleet_client import Callback

    return Callback(url=url, events=[event.value for event in events], body=body or CallbackBody.EVENT)
