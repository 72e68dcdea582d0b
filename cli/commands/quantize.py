"""`fleet models quantize`: another version of a model in shorter numbers, if it agrees with the first."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exits import CommandFailed, Exit
from cli.extras import needs
from cli.model_folders import model_folder
from cli.output import JsonOption, console, print_json

if TYPE_CHECKING:
    from worker.precision.report import Report

_KINDS = ("int8-dynamic", "int8-static", "fp16")


def quantize(  # noqa: PLR0917 (Typer passes them by name)
    model: Annotated[
        str, typer.Argument(metavar="FOLDER|NAME", help="A model's folder here, or its name in MODELS_PATH.")
    ],
    to: Annotated[str, typer.Option(help=" · ".join(_KINDS))] = "int8-dynamic",
    version: Annotated[int | None, typer.Option(min=1, help="The one to start from; else the highest.")] = None,
    out: Annotated[int | None, typer.Option(min=1, help="The one to make; else the next.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(exists=True, help="Real inputs for int8-static: a .npz file, or a folder of them.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(exists=True, help="Inputs to compare on, likewise; else random ones.")
    ] = None,
    max_disagreement: Annotated[
        float | None, typer.Option(min=0, help="Of the outputs; else 0.01 for fp16, 0.15 for int8.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a faster or smaller version of a model on this machine, next to the others in its folder.

    It is compared with the version that it is made from. Nothing is written when the two disagree more than allowed.
    """
    if to not in _KINDS:
        raise CommandFailed(
            f"--to {to!r} is none of {', '.join(_KINDS)}", code="invalid-precision", exit_code=Exit.USAGE
        )
    folder = model_folder(model)
    with needs("worker", "quantizing a model"):
        from worker.engine.providers import find_providers
        from worker.precision.convert import Precision
        from worker.precision.quantize import quantize as made
    from fleet.settings import Settings

    report = made(
        folder,
        Precision(to),
        version=version,
        out=out,
        calibration=calibration,
        inputs=inputs,
        max_disagreement=max_disagreement,
        providers=find_providers(Settings().effective_onnx_providers).using,
    )
    if as_json:
        print_json(report.as_json())
    else:
        _show(report, folder)
    if not report.agrees:
        raise CommandFailed(
            f"the two disagree by {report.disagreement:.3g} and {report.allowed:g} is allowed: nothing was written",
            code="quantization-disagrees",
            exit_code=Exit.FAILED,
            hint="calibrate on more real inputs, try another --to, or allow it with --max-disagreement",
        )


def _show(report: "Report", folder: Path) -> None:
    from rich.table import Table

    table = Table("output", "max difference", "mean", "disagreement", "cosine", "same best class", box=None)
    for output in report.outputs:
        table.add_row(
            output.name,
            f"{output.max_difference:.3g}",
            f"{output.mean_difference:.3g}",
            f"{output.disagreement:.3g}",
            _figure(output.cosine, ".6f"),
            "" if output.same_best is None else f"{output.same_best:.1%} of {output.rows}",
        )
    out, before, after = console(), report.before, report.after
    out.print(
        f"{report.model}: version {before.version} to {report.to}, compared on {report.samples} inputs: {report.inputs}"
    )
    out.print(table)
    out.print(
        f"a run: {before.run_s * 1000:,.1f} ms before, {after.run_s * 1000:,.1f} ms after "
        f"({report.speedup:.2f} times as fast; {report.provider}, {report.threads} threads)"
    )
    out.print(f"files: {before.size_bytes:,} bytes before, {after.size_bytes:,} bytes after")
    for note in report.notes:
        out.print(f"note: {note}")
    if report.agrees:
        out.print(f"written: {folder / str(after.version)}, with its report.json")


def _figure(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
