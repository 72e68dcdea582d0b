"""The local stack: Valkey, PostgreSQL, SeaweedFS, the api and workers under one supervisor, on one data folder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cli.stack.stack import Stack

__all__ = ["Stack"]


def __getattr__(name: str) -> Any:
    """On demand: the watcher of `fleet work` uses processes from here, and a quarter of the memory without the rest."""
    if name != "Stack":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cli.stack.stack import Stack

    return Stack
