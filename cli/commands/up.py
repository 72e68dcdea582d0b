"""`fleet up`: the whole stack on this machine, in the foreground or, with `--detach`, behind it."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import console, note

if TYPE_CHECKING:
    from cli.stack.request import Request
    from cli.stack.stack import Stack
    from cli.stack.status import StackStatus

FAILED_RUNNING, FAILED_START, DATA_IN_USE = 1, 2, 3
_SERVERS = "Servers that run elsewhere"


def up(
    *,
    data: Annotated[Path, typer.Option(help="Folder for everything that is kept; made when it is missing.")] = Path(
        "~/.local/share/fleet"
    ),
    host: Annotated[str, typer.Option(help="Address that the API listens on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the API; else 8000 or, if that is in use, a free one."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Number of worker processes of each lane.")] = 1,
    models: Annotated[
        Path | None, typer.Option(help="Model folder; else MODELS_PATH, else ./models, else one among the data.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is up, and leave it running.")] = False,
    external: Annotated[
        str,
        typer.Option(
            help="Which of database, redis, s3 (comma-separated) are not to be started here; their addresses and "
            "passwords come from the environment or .env.",
            rich_help_panel=_SERVERS,
        ),
    ] = "",
    database_url: Annotated[
        str | None, typer.Option(envvar=[], help="Use this PostgreSQL.", rich_help_panel=_SERVERS)
    ] = None,
    redis_url: Annotated[str | None, typer.Option(envvar=[], help="Use this Redis.", rich_help_panel=_SERVERS)] = None,
    s3_endpoint: Annotated[
        str | None,
        typer.Option(
            envvar=[],
            help="Use this S3; its keys come from MINIO_ACCESS_KEY and MINIO_SECRET_KEY.",
            rich_help_panel=_SERVERS,
        ),
    ] = None,
) -> None:
    """Start Valkey, PostgreSQL, SeaweedFS (S3-compatible), the API and workers on this machine, and watch over them.

    What ends is started again. Ctrl-C or `fleet down` stops everything in order; data and ports are kept for the
    next time. A password in an option can be read in the list of processes: prefer --external with .env.

    Exit codes: 0 stopped as asked, 1 failed while running, 2 did not start, 3 another instance runs on the folder.
    """
    from cli.stack.external import resolve
    from cli.stack.request import Request, read_settings
    from fleet.errors import Conflict, FleetError

    begun = _Begun()
    try:
        servers = resolve(
            read_settings(),
            servers=[part.strip() for part in external.split(",") if part.strip()],
            database_url=database_url,
            redis_url=redis_url,
            s3_endpoint=s3_endpoint,
        )
        request = Request(
            data=data.expanduser().absolute(),
            host=host,
            port=port,
            workers=workers,
            models=models.expanduser().absolute() if models is not None else None,
            external=servers.settings,
        )
        if detach:
            _detached(request)
        else:
            request.run(begun.show, begun.tell)
    except FleetError as error:
        _say(f"fleet: {error.message} [{error.code}]")
        code = DATA_IN_USE if isinstance(error, Conflict) else FAILED_START
        raise typer.Exit(FAILED_RUNNING if begun.shown else code) from error


class _Begun:
    """Tells the user what happens: what has come up, then the table, then whatever is out of the ordinary."""

    def __init__(self) -> None:
        self.shown = False

    def tell(self, event: str) -> None:
        if self.shown or " healthy" in event or "migrated" in event:
            _say(f"  {event}")

    def show(self, stack: "Stack") -> None:
        self.shown = True
        _show(stack.status())
        _say("Ctrl-C stops it; the data stay.")


def _detached(request: "Request") -> None:
    from cli.stack.detached import start_detached

    note("starting ...")
    try:
        status = start_detached(request)
    except KeyboardInterrupt:
        _say("fleet: stopped while starting, as asked [interrupted]")
        raise typer.Exit(FAILED_START) from None
    _show(status)
    _say("It runs in the background: `fleet status` looks, `fleet down` stops it.")


def _show(status: "StackStatus") -> None:
    from cli.stack_tables import places

    console().print(places(status))


def _say(text: str) -> None:
    # The terminal may be gone already; that must not keep the stack from an orderly stop.
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
