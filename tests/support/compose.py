"""Reads compose files as `docker compose config` would, as far as ours need: variables, then the union of services.

No container engine runs where the tests do, so this is the part of Compose that can be checked without one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Z_][A-Z0-9_]*)(?:(?P<how>:-|:\?)(?P<rest>[^}]*))?\})")


class MissingVariable(Exception):
    """A `${NAME:?message}` without a value."""


@dataclass
class Project:
    """What one `docker compose -f ... -f ...` would run. `variables` are all names that were looked up."""

    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: set[str] = field(default_factory=set)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)


def interpolate(value: Any, environment: Mapping[str, str], used: set[str]) -> Any:
    """Replaces ${NAME}, ${NAME:-default} and ${NAME:?message} in all strings below `value`; `$$` is one `$`."""
    if isinstance(value, dict):
        return {key: interpolate(entry, environment, used) for key, entry in value.items()}
    if isinstance(value, list):
        return [interpolate(entry, environment, used) for entry in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name = match["name"]
        used.add(name)
        found = environment.get(name, "")
        if not found and match["how"] == ":?":
            raise MissingVariable(f"{name}: {match['rest']}")
        return found or (match["rest"] or "" if match["how"] == ":-" else "")

    leftover = VARIABLE.sub("", value)
    if "$" in leftover:
        raise ValueError(f"a `$` that Compose would read otherwise: {value!r}")
    return VARIABLE.sub(replaced, value)


def render(files: list[Path], environment: Mapping[str, str]) -> Project:
    """Raises MissingVariable, and ValueError when two files define the same service."""
    project = Project()
    for path in files:
        document = interpolate(yaml.safe_load(path.read_text("utf-8")), environment, project.variables)
        for name, service in document.get("services", {}).items():
            if name in project.services:
                raise ValueError(f"{path.name} defines {name} again")
            project.services[name] = service
        project.volumes |= set(document.get("volumes") or {})
        project.networks |= {name: entry or {} for name, entry in (document.get("networks") or {}).items()}
    return project


def read_env_file(path: Path) -> dict[str, str]:
    """The lines that are not comments."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def seconds(duration: str) -> float:
    """`90s` or `1m30s` -> seconds."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    if not re.fullmatch(r"(\d+[hms])+", duration):
        raise ValueError(f"not a duration: {duration!r}")
    return sum(float(amount) * units[unit] for amount, unit in re.findall(r"(\d+)([hms])", duration))
