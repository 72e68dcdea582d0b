"""The local stack as people see it: where it is, and how its processes are."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli.output import shown_path

if TYPE_CHECKING:
    from cli.stack.status import ChildStatus, StackStatus

_COLOURS = {"healthy": "green", "starting": "cyan", "waiting": "yellow", "unhealthy": "red"}
_PRODUCTS = {"S3": "SeaweedFS, S3-compatible", "Redis": "Valkey"}
_SERVERS = {"S3": "s3", "Redis": "redis", "PostgreSQL": "database"}


def places(status: "StackStatus") -> RenderableType:
    """The addresses, the data folder, and what the user should know."""
    table = Table.grid(padding=(0, 3))
    table.add_column(style="bold")
    table.add_column()
    table.add_column(style="dim")
    for name, address in status.addresses.items():
        external = _SERVERS.get(name) in status.external
        table.add_row(name, Text(address, style="cyan"), "external" if external else _PRODUCTS.get(name, ""))
    table.add_row("data", _home(status.data), "")
    notes = [Padding(Text(f"note: {note}", style="yellow"), (0, 0, 0, 2), expand=False) for note in status.notes]
    return Group(Padding(table, (1, 0, 1, 2), expand=False), *notes, *([Text()] if notes else []))


def children(status: "StackStatus") -> RenderableType:
    """One row per process."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for heading in ("process", "state", "pid", "up", "restarts", "remark"):
        table.add_column(heading, justify="right" if heading in ("pid", "up", "restarts") else "left")
    for child in status.children:
        table.add_row(
            child.name,
            Text(child.state, style=_COLOURS.get(child.state, "")),
            "" if child.pid is None else str(child.pid),
            _uptime(child),
            str(child.restarts) if child.restarts else "",
            "" if child.state == "healthy" else Text(child.fault or "", style="dim"),
        )
    return Padding(table, (0, 0, 0, 2), expand=False)


def duration(seconds: float) -> str:
    """`42 s`, `7 min`, `3 h 20 min`, `5 d 4 h`."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if not minutes:
        return f"{int(seconds)} s"
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if not days else f"{days} d {hours % 24} h"


def _uptime(child: "ChildStatus") -> str:
    if child.started_at is None or child.pid is None:
        return ""
    return duration((datetime.now(UTC) - child.started_at).total_seconds())


def _home(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return shown_path(path)
