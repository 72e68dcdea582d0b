"""`fleet models versions / status / deploy / alias / load / unload / reload / remove / metrics`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cli.connection import DataOption, UrlOption, connect
from cli.output import JsonOption, console, print_json

if TYPE_CHECKING:
    from fleet_client import Client, ModelStatus

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `fleet models list` prints it.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A number or an alias.")]
WhichArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A number or an alias.")]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, max=300, metavar="SECONDS", help="Wait so long for workers to have done it.")
]


def versions(name: NameArgument, as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None) -> None:
    """List a model's versions: where each comes from, its state, and what points to it."""
    with connect(url, data) as client:
        found = client.model_versions(name)
    if as_json:
        print_json([version.model_dump(mode="json") for version in found])
    else:
        from cli import model_tables

        console().print(model_tables.versions(found))


def status(name: NameArgument, as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None) -> None:
    """Show where a model's versions are loaded, and what workers were asked to do."""
    with connect(url, data) as client:
        _show(client.model_status(name), as_json=as_json)


def deploy(
    *,
    name: NameArgument,
    version: VersionArgument,
    alias: Annotated[str, typer.Option("--alias", help="What is to point to it.")] = "default",
    wait_s: WaitOption = 60.0,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Give a version to requests without one (or to an alias), once a worker has it loaded; else nothing changes."""
    with connect(url, data) as client:
        _show(client.deploy_model(name, version, alias=alias, wait_s=wait_s), as_json=as_json)


def alias(
    *,
    name: NameArgument,
    alias_name: Annotated[str, typer.Argument(metavar="ALIAS")],
    version: Annotated[int | None, typer.Argument(metavar="VERSION", min=1)] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Remove it.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Point an alias to a version, at once and unchecked, or drop it. `deploy --alias` checks first."""
    if drop == (version is not None):
        raise typer.BadParameter("give a version that the alias is to point to, or --drop")
    with connect(url, data) as client:
        if version is None:
            client.drop_model_alias(name, alias_name)
        else:
            client.set_model_alias(name, alias_name, version)
    typer.echo(f"{name}@{alias_name} {'dropped' if version is None else f'is version {version}'}")


def load(
    *,
    name: NameArgument,
    version: WhichArgument = "default",
    wait_s: WaitOption = 0.0,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Load a version on the workers and keep it loaded; also ends an unload."""
    _asked(lambda client: client.load_model(name, version, wait_s=wait_s), url, data, as_json=as_json)


def reload(
    *,
    name: NameArgument,
    version: WhichArgument = "default",
    wait_s: WaitOption = 0.0,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Load a version anew; the old one serves until then."""
    _asked(lambda client: client.reload_model(name, version, wait_s=wait_s), url, data, as_json=as_json)


def unload(
    *,
    name: NameArgument,
    version: WhichArgument = "default",
    wait_s: WaitOption = 0.0,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Take a version out of service: new jobs are refused, and those that wait or run still end."""
    _asked(lambda client: client.unload_model(name, version, wait_s=wait_s), url, data, as_json=as_json)


def remove(
    name: NameArgument,
    version: VersionArgument,
    force: Annotated[bool, typer.Option("--force", help="Also one that an alias, or `default`, points to.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Remove a version that was brought in, with its files."""
    with connect(url, data) as client:
        client.remove_model(name, version, force=force)
    typer.echo(f"{name}@{version} removed")


def metrics(
    *,
    name: NameArgument,
    version: Annotated[int | None, typer.Option(min=1, help="Else all together.")] = None,
    window_s: Annotated[
        float, typer.Option("--window", min=1, metavar="SECONDS", help="Jobs that ended in the last seconds.")
    ] = 3600.0,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Show how a model does: rate, times, errors and batches lately, and what was run since ever."""
    with connect(url, data) as client:
        found = client.model_metrics(name, version, window_s=window_s)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        from cli import model_tables

        console().print(model_tables.metrics(found))
        if found.usage:
            console().print(model_tables.usage(found.usage))


def _asked(ask: "Callable[[Client], ModelStatus]", url: UrlOption, data: DataOption, *, as_json: bool) -> None:
    with connect(url, data) as client:
        _show(ask(client), as_json=as_json)


def _show(found: "ModelStatus", *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        from cli import model_tables

        console().print(model_tables.status(found))
