"""`fleet demo`, which is `make demo`: a whole Fleet on this machine, one real job, and what came of it."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import CommandFailed, Exit
from cli.extras import needs
from cli.live import Live
from cli.output import console, note, shown_path

if TYPE_CHECKING:
    from fleet_client import Job

_MODEL = "brain-extraction"
#: A `.env` that was written for a deployment must not close the demo's door or refuse its start.
_OWN = {"ENVIRONMENT": "development", "API_KEYS": ""}


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Data folder of the stack; else a temporary one, which is removed.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the mask and the picture.")] = Path("out/demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary data folder.")] = False,
) -> None:
    """Start a whole Fleet on this machine, segment the example head, show the result, and stop again."""
    head = _example()
    folder = data or Path(tempfile.mkdtemp(prefix="fleet-demo-"))
    try:
        job, files = _segmented(folder, head, out)
    except Exception:
        note(f"the logs are in {folder / 'logs'}")
        raise
    _show(job, files)
    if data is None and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        note(f"the stack's data are in {folder}; `fleet up --data {folder}` starts it again")


def _segmented(folder: Path, head: Path, out: Path) -> tuple["Job", list[Path]]:
    from fleet_client import Client

    with needs("embedded", "the demo"):
        from cli.stack import Stack
    from fleet.settings import Settings

    note("starting PostgreSQL, Valkey, SeaweedFS, the API and a worker on this machine ...")
    models = head.parents[2] / "models"
    with Stack(data=folder, workers=1, models=models, base=Settings(_env_file=None), environment=_OWN) as stack:
        note(f"{stack.url} is up; segmenting {shown_path(head)} with {_MODEL}")
        with Client(stack.url, getattr(stack, "api_key", None)) as client, Live() as live:
            job = client.segment(head, model=_MODEL, preview=True, on_upload=live.transferred)
            job.wait(live.stepped)
            files = job.save(out, on_download=live.transferred)
        note("stopping ...")
    return job, files


def _show(job: "Job", files: list[Path]) -> None:
    from cli import tables

    volume_ml = sum(label.get("volume_ml") or 0.0 for label in job.result()["labels"])
    ran_on = job.ran_on
    shown = console()
    shown.print(
        tables.facts(
            [
                *tables.files_of(job.record, files),
                ("brain volume", f"{volume_ml:,.1f} ml"),
                ("provider", ran_on.provider if ran_on else None),
                ("device", ran_on.device if ran_on else None),
            ]
        )
    )
    for part in (tables.result(job.result()), tables.timings(job.record)):
        shown.print()
        shown.print(part)


def _example() -> Path:
    head = Path(__file__).parents[2] / "examples" / "data" / "head-t1.nii.gz"
    if not head.is_file():
        raise CommandFailed(
            f"the example {head} is missing: the demo runs from a checkout of the repository",
            code="example-missing",
            exit_code=Exit.LOCAL,
        )
    return head
