"""`fleet top`: the fleet as it is, again and again."""

import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.connection import DataOption, UrlOption, connect
from cli.durations import roughly
from cli.output import JsonOption, console, print_json

if TYPE_CHECKING:
    from cli.top_tables import Shown
    from fleet_client import Client

#: A look that takes longer than this is given up: the next one may find the server again.
_PATIENCE_S = 5.0


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print it once and leave, as outside a terminal.")] = False,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="How often to look.")] = 1.0,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Show the workers with what they run, and the queues with what waits; q or Ctrl-C ends it.

    A server that goes away is said to be away, and shown again when it is back.
    """
    watching = sys.stdin.isatty() and sys.stdout.isatty() and not (once or as_json)
    with connect(url, data, tries_again=0 if watching else 2, timeout_s=_PATIENCE_S) as client:
        if as_json:
            fleet, queues = client.fleet(), client.queues(empty_too=True)
            print_json({"fleet": fleet.model_dump(mode="json"), "queues": queues.model_dump(mode="json")})
        elif watching:
            _watch(client, every)
        else:
            from cli.top_tables import screen

            shown = console()
            shown.print(screen(_look(client), client.url, shown.width))


def _look(client: "Client") -> "Shown":
    from cli.top_tables import Shown

    return Shown(client.fleet(), client.queues(), datetime.now())  # noqa: DTZ005 (a person's clock)


def _watch(client: "Client", every_s: float) -> None:
    from rich.live import Live

    from cli.top_tables import screen
    from fleet_client import FleetError

    terminal = console()
    # Who is not there at the start is most likely the wrong server: that is said, and not waited for.
    shown, away_since, trouble = _look(client), 0.0, None
    try:
        with _keys(), Live(console=terminal, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen(shown, client.url, terminal.width, terminal.height, trouble), refresh=True)
                if _quits_within(every_s):
                    return
                try:
                    shown, away_since, trouble = _look(client), 0.0, None
                except FleetError as error:
                    if not error.retryable:
                        raise
                    away_since = away_since or time.monotonic()
                    trouble = f"no answer for {roughly(time.monotonic() - away_since)}, this is how it was: {error}"
    except KeyboardInterrupt:
        return


@contextmanager
def _keys() -> Iterator[None]:
    """Keys are heard at once and not shown, until the end."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _quits_within(seconds: float) -> bool:
    """Waits so long for a key; whether it was q."""
    ends_at = time.monotonic() + seconds
    while (left_s := ends_at - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left_s)
        if ready and (sys.stdin.read(1) or "q") in "qQ":
            return True
    return False
