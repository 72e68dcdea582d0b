"""`fleet models`: what the fleet can run, and whether a folder can join it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.connection import DataOption, UrlOption, connect
from cli.exits import CommandFailed, Exit
from cli.extras import needs
from cli.output import JsonOption, console, note, print_json

app = typer.Typer(
    help="See what the fleet can run, and check a model's folder.", no_args_is_help=True, add_completion=False
)


@app.command("list")
def list_models(as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None) -> None:
    """List the models that the fleet's workers hold."""
    with connect(url, data) as client:
        models = client.models()
    if as_json:
        print_json([model.model_dump(mode="json") for model in models])
    elif models:
        from cli import tables

        console().print(tables.model_list(models))
    else:
        note("no models: no worker has announced one yet")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="As `fleet models list` prints it.")],
    version: Annotated[int | None, typer.Option(min=1, help="Else its highest.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Show one model: what it takes, what it returns, and its params."""
    with connect(url, data) as client:
        model = client.model(name, version)
    if as_json:
        print_json(model.model_dump(mode="json"))
        return
    from cli import tables

    pairs = [
        ("model", f"{model.name}@{model.version}"),
        ("versions", ", ".join(map(str, model.versions))),
        ("task", model.task),
        ("", model.description),
        ("licence", model.licence),
        ("takes", model.accepts),
        ("returns", model.returns),
        ("labels", ", ".join(f"{value} {label}" for value, label in model.labels.items())),
        ("lane", model.lane),
        ("device", model.device),
        ("size", None if model.size_bytes is None else f"{model.size_bytes:,} bytes"),
        ("SHA-256", model.sha256),
        ("workers", str(model.ready_workers)),
    ]
    out = console()
    out.print(tables.facts(pairs))
    if model.params_schema.get("properties"):
        out.print()
        out.print(tables.model_params(model))


@app.command()
def check(
    model: Annotated[str, typer.Argument(metavar="FOLDER|NAME", help="A model's folder, or its name in MODELS_PATH.")],
    as_json: JsonOption = False,
) -> None:
    """Check a model's folder on this machine: its files, its graph, and whether they fit the task."""
    folder = _folder(model)
    with needs("worker", "checking a model"):
        from worker.engine.model_folder import check_model
    faults = check_model(folder)
    if as_json:
        print_json({"folder": str(folder), "faults": faults})
    else:
        for fault in faults:
            typer.echo(fault)
        if not faults:
            typer.echo(f"{folder} can be served")
    if faults:
        raise typer.Exit(Exit.FAILED)


def _folder(model: str) -> Path:
    """A path when it is one; a bare name may also be that of a model in MODELS_PATH."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from fleet.settings import Settings

    models_path = Settings().models_path
    if Path(model).name == model and (models_path / model).is_dir():
        return models_path / model
    raise CommandFailed(
        f"there is no folder {model!r}, neither here nor in {models_path}",
        code="model-not-found",
        exit_code=Exit.NOT_FOUND,
        hint="give the folder that holds model.yaml, or set MODELS_PATH",
    )
