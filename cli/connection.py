"""Which server a command speaks to, and as whom.

In this order: `--url` or FLEET_URL; the local stack that runs from `--data`; http://127.0.0.1:8000. The key is
FLEET_API_KEY, else the local stack's own when that was found. FLEET_URL and FLEET_API_KEY are the command's own two
names in the environment, apart from the servers' settings, and are read here and nowhere else. There is no option for
the key: it would be readable in the list of processes.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import CommandFailed, Exit

if TYPE_CHECKING:
    from fleet_client import Client

URL_NAME, KEY_NAME = "FLEET_URL", "FLEET_API_KEY"
FALLBACK_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help=f"The server's address; else ${URL_NAME}, else the local stack, else {FALLBACK_URL}.",
        rich_help_panel="Connection",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder of the local stack to look for.", rich_help_panel="Connection"),
]


def resolve(url: str | None, data: Path | None) -> tuple[str, str | None]:
    """-> (URL, API key or None)."""
    key = os.environ.get(KEY_NAME) or None
    named = url or os.environ.get(URL_NAME)
    if named:
        return named, key
    from cli.stack.discovery import find_local

    local = find_local(data)
    if local is None:
        return FALLBACK_URL, key
    local_url, local_key = local
    return local_url, local_key or key


def connect(url: str | None, data: Path | None, *, tries_again: int = 2, timeout_s: float = 30.0) -> "Client":
    """Raises CommandFailed when the address or the key cannot be used; nothing is asked of the server yet.

    Few tries by default: somebody who asks for a list wants to hear soon that nobody is there.
    """
    from fleet_client import Client

    address, key = resolve(url, data)
    try:
        return Client(address, key, timeout=timeout_s, retries=tries_again)
    except ValueError as error:
        raise CommandFailed(str(error), code="invalid-connection", exit_code=Exit.USAGE) from error
