"""The local stack: Valkey, PostgreSQL, SeaweedFS, the api and workers under one supervisor, on one data folder."""

from cli.stack.discovery import find_local
from cli.stack.stack import Stack

__all__ = ["Stack", "find_local"]
