"""How the other commands find a running local stack: `client.json` in its data folder."""

import json
from pathlib import Path

from cli.stack import identity
from cli.stack.layout import DEFAULT_DATA, Layout
from cli.stack.private_file import write_private


def find_local(data: Path | None = None) -> tuple[str, str | None] | None:
    """(URL, API key or None) of the stack that runs on `data`, or None when none does."""
    try:
        told = json.loads(Layout(data or DEFAULT_DATA).client_file.read_text("utf-8"))
        if not identity.is_running(int(told["pid"]), str(told["started"])):
            return None
        return str(told["url"]), None if told["api_key"] is None else str(told["api_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def publish(layout: Layout, url: str, api_key: str | None, *, pid: int) -> None:
    """Lets other commands find the stack that process `pid` supervises."""
    told = {"url": url, "api_key": api_key, "pid": pid, "started": identity.started(pid)}
    write_private(layout.client_file, json.dumps(told, indent=1) + "\n")
