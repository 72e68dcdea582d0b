"""`fleet embed`: vectors of a few texts, or of a file of millions."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.connection import DataOption, UrlOption, connect
from cli.durations import duration_s
from cli.exits import CommandFailed, Exit
from cli.following import CancelOption, TimeoutOption, described, follow
from cli.live import Live
from cli.output import JsonOption, assignments, note, print_json, shown_path
from fleet.contracts import PriorityName

if TYPE_CHECKING:
    from fleet_client import Client, Embeddings, Job

#: Files of JSON lines.
_SUFFIXES = (".jsonl", ".ndjson")
_FILES = (*_SUFFIXES, ".json", ".txt", ".csv", ".tsv")
_SHOWN_NUMBERS = 6


class Kind(StrEnum):
    QUERY = "query"
    PASSAGE = "passage"


class Truncation(StrEnum):
    REFUSE = "refuse"
    END = "end"
    START = "start"


def embed(
    given: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...|FILE.jsonl", help="Texts; or one file, a text on each line as JSON."),
    ],
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="See `fleet models list`.", show_default=False)],
    model_version: Annotated[int | None, typer.Option(min=1, help="Version of the model; else its default.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.npy", help="Where the vectors go, for numpy.load.")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="Put the model's prompt for queries or passages before each text.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Put the model's prompt of this name before each text.")] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Cut the vectors to so many numbers, where the model allows it.")
    ] = None,
    truncate: Annotated[
        Truncation | None,
        typer.Option(help="What is cut off texts that are too long; else as the model's author says."),
    ] = None,
    first: Annotated[int | None, typer.Option(min=0, help="Of a file: the first line, counted from 0.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Of a file: how many lines.")] = None,
    priority: Annotated[PriorityName, typer.Option(help="Which jobs start first.")] = PriorityName.NORMAL,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="Of a file: to find the job again.")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Of a file: the job expires when it has not ended after this."),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of a file: keep the job so long after its end, as 12h or 30d.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Of a file: repeating it with the same key gives the first job.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Of a file: print the job's id and leave.")] = False,
    timeout: TimeoutOption = None,
    cancel_on_interrupt: CancelOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """Make a vector for each text.

    fleet embed "a red cat" --model all-minilm-l6-v2

    fleet embed texts.jsonl --model all-minilm-l6-v2 -o vectors.npy
    """
    wishes = {
        "model": model,
        "version": model_version,
        "kind": kind.value if kind else None,
        "prompt": prompt,
        "dimensions": dimensions,
        "truncate": truncate.value if truncate else None,
        "priority": priority.value,
    }
    of_a_file = {
        "first": first,
        "count": count,
        "labels": assignments(label or [], "--label"),
        "deadline_s": deadline,
        "retention_s": None if keep is None else duration_s(keep, "--keep"),
        "idempotency_key": idempotency_key,
    }
    is_file = len(given) == 1 and given[0].lower().endswith(_SUFFIXES)
    _check(out, is_file=is_file, no_wait=no_wait, asked=any(of_a_file.values()) or first is not None)
    if not is_file:
        _refuse_files(given)
    with connect(url, data, tries_again=5) as client, Live() as live:
        if not is_file:
            found = client.embed(given, timeout=timeout, **wishes)  # type: ignore[arg-type]
            path = None if out is None else found.save(out)
        else:
            job = client.embed_file(Path(given[0]), on_upload=live.transferred, **wishes, **of_a_file)  # type: ignore[arg-type]
            if not no_wait:
                follow(job, live, out=None, timeout_s=timeout, cancel_on_interrupt=cancel_on_interrupt)
                path = _saved(client, job, live, out)
    if not is_file:
        _show(found, given, path, as_json=as_json)
    elif no_wait:
        print_json(described(job)) if as_json else typer.echo(job.id)
    else:
        _show_job(job, path, as_json=as_json)


def _refuse_files(given: list[str]) -> None:
    """Nobody wants the vector of a file's name."""
    for text in given:
        if text.lower().endswith(_FILES) and Path(text).expanduser().is_file():
            raise typer.BadParameter(
                f"{text} is a file: one that ends in {' or '.join(_SUFFIXES)}, a text on each line as JSON, is read "
                "when it is the only argument"
            )


def _check(out: Path | None, *, is_file: bool, no_wait: bool, asked: bool) -> None:
    """Before anything is sent: what cannot be done in the end shall not be begun."""
    if not is_file and (no_wait or asked):
        raise typer.BadParameter(f"options of a file need one argument that ends in {' or '.join(_SUFFIXES)}")
    if is_file and out is None and not no_wait:
        raise typer.BadParameter("say where the vectors go, or --no-wait", param_hint="--out")
    if out is not None and not out.expanduser().absolute().parent.is_dir():
        raise CommandFailed(f"there is no folder for {out}", code="local-error", exit_code=Exit.LOCAL)


def _saved(client: "Client", job: "Job", live: Live, out: Path | None) -> Path | None:
    if out is None or job.state != "succeeded":
        return None
    try:
        return client.save_embeddings(job, out, on_download=live.transferred)
    except KeyboardInterrupt:
        note(f"\nthe vectors are made: `fleet jobs save {job.id} -o DIR` fetches them")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _show(found: "Embeddings", texts: list[str], path: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(_facts(found.dimensions, found.total_tokens, path) | {"vectors": list(found)})
        return
    for text, vector in zip(texts, found, strict=True):
        numbers = " ".join(f"{number:.4f}" for number in vector[:_SHOWN_NUMBERS])
        typer.echo(f"{text[:60]}: {numbers}{' …' if len(vector) > _SHOWN_NUMBERS else ''}")
    typer.echo(_sentence(len(found), found.dimensions, found.total_tokens, path))


def _show_job(job: "Job", path: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(described(job, [] if path is None else [path]))
    job.wait()
    if not as_json:
        result = job.result()
        typer.echo(_sentence(result["count"], result["dimensions"], result["total_tokens"], path))


def _facts(dimensions: int, tokens: int, path: Path | None) -> dict[str, Any]:
    return {"dimensions": dimensions, "total_tokens": tokens, "file": None if path is None else str(path)}


def _sentence(count: int, dimensions: int, tokens: int, path: Path | None) -> str:
    vectors = "1 vector" if count == 1 else f"{count:,} vectors"
    return f"{vectors} of {dimensions} numbers, {tokens:,} tokens{'' if path is None else f': {shown_path(path)}'}"
