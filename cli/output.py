"""What a command says: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def console() -> "Console":
    """For tables and text that people read. Outside a terminal lines are not folded: ids and paths stay whole."""
    from rich.console import Console

    people = sys.stdout.isatty()
    # Names and messages come from elsewhere: brackets in them are text, not markup.
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not people, width=None if people else 200)


def note(text: str) -> None:
    """A remark beside the result."""
    sys.stderr.write(text + "\n")


def assignments(given: list[str], option: str) -> dict[str, str]:
    """`k=v` pairs of a repeated option. Raises BadParameter."""
    pairs = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{entry!r} is not of the form name=value", param_hint=option)
        pairs[name] = value
    return pairs


def typed(values: Mapping[str, str]) -> dict[str, Any]:
    """Values as JSON where they are JSON (`true`, `0.5`, `[1,2]`), else as text (`nrrd`)."""
    return {name: _typed(value) for name, value in values.items()}


def _typed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def shown_path(path: Path) -> str:
    """Relative where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
