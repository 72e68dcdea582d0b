"""`fleet models check`: whether a folder can join the fleet, what was found in it, and what is wrong."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import Exit
from cli.extras import needs
from cli.model_folders import model_folder
from cli.output import JsonOption, print_json

if TYPE_CHECKING:
    from worker.engine.checking import VersionFindings


def check(
    model: Annotated[str, typer.Argument(metavar="FOLDER|NAME", help="A model's folder, or its name in MODELS_PATH.")],
    as_json: JsonOption = False,
) -> None:
    """Check a model's folder on this machine: its files, its graph, its warm-up and its example."""
    folder = model_folder(model)
    with needs("worker", "checking a model"):
        from worker.engine.checking import inspect
    findings = inspect(folder)
    if as_json:
        versions = [asdict(version) for version in findings.versions]
        print_json({"folder": str(folder), "faults": findings.faults, "versions": versions})
    else:
        for version in findings.versions:
            for line in _told(version):
                typer.echo(line)
        for fault in findings.faults:
            typer.echo(fault)
        if not findings.faults:
            typer.echo(f"{folder} can be served")
    if findings.faults:
        raise typer.Exit(Exit.FAILED)


def _told(version: "VersionFindings") -> Iterator[str]:
    size = version.max_batch_size
    yield f"{version.key}: task {version.task}, " + (f"batches of at most {size}" if size else "no batch dimension")
    for kind, tensors in (("input", version.inputs), ("output", version.outputs)):
        for tensor in tensors:
            yield f"  {kind:6}  {tensor}"
    if version.providers:
        yield f"  runs    with {', '.join(version.providers)}, as far as they work on the worker's device"
    for remark in version.remarks:
        yield f"  note    {remark}"
    if version.warmup_runs:
        yield f"  tried   {version.warmup_runs} warm-up runs"
    if version.example_answered:
        yield "  tried   its example, which was answered"
