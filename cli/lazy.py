"""A group of commands whose modules are imported when they are used: `fleet jobs list` loads nothing of the stack."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command


class CommandTable(Mapping[str, Any]):
    """name -> command, from name -> "module:attribute"; the attribute is a function or a `typer.Typer`.

    A module that cannot be imported raises as it is: a command that exists by name only would be a lie.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._places[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def group_class(places: Mapping[str, str]) -> type[TyperGroup]:
    """The `cls` for a `typer.Typer` whose commands are those of the table, in its order."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**{**attributes, "commands": {}})
            # Typer adds to its table while it builds one; this one is complete and only read.
            self.commands = cast(Any, CommandTable(places))

        def list_commands(self, ctx: Any) -> list[str]:
            return list(self.commands)

    return LazyGroup


def _load(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        app = found
    else:
        app = typer.Typer(add_completion=False)
        app.command(name)(found)
    command = get_command(app)
    command.name = name
    return command
