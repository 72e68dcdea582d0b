"""`fleet status`: what runs on a data folder."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.output import JsonOption, console, note, print_json

UNHEALTHY, NO_KEY, NOT_RUNNING = 1, 1, 3


def status(
    data: Annotated[Path, typer.Option(help="Data folder of the stack.")] = Path("~/.local/share/fleet"),
    show_key: Annotated[
        bool, typer.Option("--show-key", help="Print the generated API key, and nothing else.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the local stack: addresses, processes, their health, age and restarts.

    Exit codes: 0 all healthy, 1 something is not, 3 nothing runs. With --show-key: 0, or 1 when there is no key.
    """
    from cli.stack.layout import Layout
    from cli.stack.status import read_status

    layout = Layout(data)
    if show_key:
        _show_key(layout.root)
        return
    found = read_status(layout.status_file)
    if found is None or not found.alive:
        if as_json:
            print_json({"running": False, "data": str(layout.root)})
        else:
            note(f"no stack runs on {layout.root}; `fleet up` starts one")
        raise typer.Exit(NOT_RUNNING)
    if as_json:
        print_json({"running": True, "healthy": found.healthy, **found.model_dump(mode="json", exclude={"started"})})
    else:
        from cli.stack_tables import children, duration, places

        age = duration((datetime.now(UTC) - found.started_at).total_seconds())
        shown = console()
        shown.print(f"{found.phase} for {age}, supervisor {found.pid}")
        shown.print(places(found))
        shown.print(children(found))
    if not found.healthy:
        raise typer.Exit(UNHEALTHY)


def _show_key(root: Path) -> None:
    from cli.stack.layout import Layout
    from cli.stack.state import load

    key = load(Layout(root)).api_key
    if key is None:
        note("no API key was generated: `fleet up` makes one when --host can be reached from other machines")
        raise typer.Exit(NO_KEY)
    typer.echo(key)
