"""`fleet models`: what the fleet can run; and the table of what can be done with models."""

from typing import Annotated

import typer

from cli.commands import model_arrivals, model_versions
from cli.commands.check_model import check
from cli.commands.quantize import quantize
from cli.connection import DataOption, UrlOption, connect
from cli.output import JsonOption, console, note, print_json

app = typer.Typer(
    help="See what the fleet can run, bring models in, deploy them, and check a model's folder.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("list")
def list_models(as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None) -> None:
    """List the models that the fleet can run, and what is on its way in."""
    with connect(url, data) as client:
        models, arriving = client.models(), client.arriving_models()
    if as_json:
        print_json([model.model_dump(mode="json") for model in models])
    elif models:
        from cli import tables

        console().print(tables.model_list(models))
    elif not arriving:
        note("no models: no worker has announced one yet, and none was brought in")
    if arriving and not as_json:
        from cli import model_tables

        console().print(model_tables.arriving(arriving))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="As `fleet models list` prints it, or name@alias.")],
    version: Annotated[int | None, typer.Option(min=1, help="Else its default, else its highest.")] = None,
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
        ("aliases", ", ".join(f"{alias} {version}" for alias, version in sorted(model.aliases.items()))),
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


app.command()(model_versions.versions)
app.command()(model_versions.status)
app.command()(model_arrivals.pull)
app.command()(model_arrivals.upload)
app.command()(model_arrivals.retry)
app.command()(model_versions.deploy)
app.command()(model_versions.alias)
app.command()(model_versions.load)
app.command()(model_versions.unload)
app.command()(model_versions.reload)
app.command()(model_versions.remove)
app.command()(model_versions.metrics)
app.command()(check)
app.command()(quantize)
