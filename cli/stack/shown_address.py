"""Addresses of servers as they may be shown: no password, and no query that could hold one."""

from urllib.parse import urlsplit

import psycopg.conninfo
from psycopg import ProgrammingError


def shown_url(url: str) -> str:
    """`redis://:secret@host:6379/0` → `redis://host:6379/0`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def shown_dsn(dsn: str) -> str:
    """Any form that libpq takes → `postgresql://user@host:port/database`."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
    except ProgrammingError:
        return "postgresql://…"
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{user}{parts.get('host', '')}{port}/{parts.get('dbname', '')}"
