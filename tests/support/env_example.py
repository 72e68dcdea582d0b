"""Reads `.env.example`: what it sets, what it shows as a default, and the comment above each."""

import re
from dataclasses import dataclass
from pathlib import Path

ASSIGNMENT = re.compile(r"(?P<default># )?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)")


@dataclass(frozen=True)
class Entry:
    name: str
    value: str
    #: Whether the line is commented out, and so states the default.
    is_default: bool
    comment: str
    section: str


def read_entries(path: Path) -> list[Entry]:
    entries: list[Entry] = []
    comment = section = ""
    for line in path.read_text("utf-8").splitlines():
        if heading := re.fullmatch(r"# --- (.+?) -+", line):
            section, comment = heading[1], ""
        elif match := ASSIGNMENT.fullmatch(line):
            entries.append(Entry(match["name"], match["value"], bool(match["default"]), comment, section))
            comment = ""
        else:
            comment = line.removeprefix("#").strip() if line.startswith("#") else ""
    return entries
