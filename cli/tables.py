"""Jobs and models as people read them. Machines read `--json`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli import expectations
from cli.output import shown_path

if TYPE_CHECKING:
    from fleet_client import JobRecord, Model

#: The stages in the order in which a job passes them.
_STAGES = ("queue", "load", "fetch", "decode", "prepare", "infer", "finish", "encode", "store")
_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "expired": "yellow", "running": "cyan"}


def state(record: "JobRecord") -> Text:
    return Text(record.state, style=_COLOURS.get(record.state, ""))


def job_list(records: Iterable["JobRecord"]) -> Table:
    table = _table("id", "model", "state", "stage", "progress", "priority", "age", "labels")
    for record in records:
        table.add_row(
            record.id,
            f"{record.model}@{record.version}",
            state(record),
            "" if record.ended else record.stage or "",
            f"{record.progress:.0%}",
            record.priority or "",
            _age(record.created_at),
            " ".join(f"{name}={value}" for name, value in record.labels.items()),
        )
    return table


def job(record: "JobRecord", files: Sequence[Path] = ()) -> Group:
    """Everything about one job that a person asks for first."""
    parts: list[RenderableType] = [_facts(record, files)]
    if record.history:
        parts += ["", history(record)]
    if record.result:
        parts += ["", result(record.result)]
    if record.timings:
        parts += ["", timings(record)]
    return Group(*parts)


def history(record: "JobRecord") -> Table:
    """What went wrong before, and what was done about it."""
    table = _table("attempt", "at", "outcome", "worker", "detail")
    for note in record.history:
        at = f"{note.at.astimezone():%Y-%m-%d %H:%M:%S}" if note.at else ""
        table.add_row(str(note.attempt), at, note.outcome, note.worker or "", note.detail or "")
    return table


def result(value: Mapping[str, Any]) -> RenderableType:
    """Labels with their volumes where there are some; other results as JSON."""
    labels = value.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, dict) and "volume_ml" in label for label in labels):
        text = json.dumps(value, indent=2, ensure_ascii=False)
        return Text(text if len(text) < 4000 else text[:4000] + "\n… `fleet jobs result ID` prints it all")
    table = _table("label", "name", "voxels", "volume ml")
    for label in labels:
        volume_ml = label["volume_ml"]
        table.add_row(
            str(label.get("value", "")),
            str(label.get("name", "")),
            f"{label.get('voxels', 0):,}",
            "" if volume_ml is None else f"{volume_ml:,.2f}",
        )
    told = value.get("facts")
    warnings = told.get("warnings", []) if isinstance(told, dict) else []
    remarks = [*(f"warning: {warning}" for warning in warnings), str(value.get("notice", ""))]
    return Group(table, *(Text(remark, style="yellow") for remark in remarks if remark))


def timings(record: "JobRecord") -> Table:
    """Where the time went from submit to end; `rest` is what no stage accounts for."""
    table = _table("stage", "seconds", "share")
    spent = dict(record.timings)
    if record.created_at and record.finished_at:
        whole = (record.finished_at - record.created_at).total_seconds()
        spent["rest"] = max(0.0, whole - sum(record.timings.values()))
    whole = sum(spent.values())
    for stage in sorted(spent, key=_stage_rank):
        table.add_row(stage, f"{spent[stage]:.3f}", f"{spent[stage] / whole:.0%}" if whole else "")
    table.add_section()
    table.add_row("total", f"{whole:.3f}", "")
    return table


def model_list(models: Iterable["Model"]) -> Table:
    table = _table("model", "versions", "task", "lane", "device", "MB", "workers", "description")
    for model in models:
        table.add_row(
            model.name,
            ", ".join(map(str, model.versions or [model.version])),
            model.task,
            model.lane or "",
            model.device or "",
            "" if model.size_bytes is None else f"{model.size_bytes / 1e6:.1f}",
            str(model.ready_workers),
            model.description,
        )
    return table


def model_params(model: "Model") -> Table:
    """What a request may ask of the model with `-p`."""
    table = _table("param", "type", "default", "description")
    for name, schema in model.params_schema.get("properties", {}).items():
        default = json.dumps(schema["default"]) if "default" in schema else ""
        table.add_row(name, _type(schema), default, str(schema.get("description", "")))
    return table


def facts(pairs: Iterable[tuple[str, RenderableType | None]]) -> Table:
    """Names and values; those without a value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, ""):
            table.add_row(name, value)
    return table


def files_of(record: "JobRecord", files: Sequence[Path]) -> list[tuple[str, RenderableType | None]]:
    """Each saved file under what the result calls it: its mask, its preview, or plainly a file."""
    result = record.result or {}
    kinds = {result[kind]: kind for kind in ("mask", "preview") if isinstance(result.get(kind), str)}
    return [(kinds.get(path.name, "file"), Text(shown_path(path))) for path in files]


def _facts(record: "JobRecord", files: Sequence[Path]) -> Table:
    ran_on, fault = record.ran_on, record.error
    return facts(
        [
            ("job", record.id),
            ("model", f"{record.model}@{record.version}"),
            ("state", state(record)),
            ("stage", None if record.ended else record.stage),
            ("progress", None if record.ended else f"{record.progress:.0%}"),
            *_forecast(record),
            ("error", Text(f"{fault.message} [{fault.code}]", style="red") if fault else None),
            ("attempt", f"{record.attempt} of {record.max_attempts}" if record.attempt > 1 else None),
            ("labels", " ".join(f"{name}={value}" for name, value in record.labels.items())),
            ("provider", _provider(record)),
            ("device", ran_on.device if ran_on else None),
            ("why there", Text(ran_on.why) if ran_on and ran_on.why else None),
            ("fallback", Text(ran_on.fallback) if ran_on and ran_on.fallback else None),
            ("kept until", f"{record.expires_at.astimezone():%Y-%m-%d %H:%M}" if record.expires_at else None),
            *files_of(record, files),
        ]
    )


def _forecast(record: "JobRecord") -> list[tuple[str, RenderableType | None]]:
    if record.forecast is None:
        return []
    return [("starts", expectations.start(record.forecast)), ("ends", expectations.end(record.forecast))]


def _provider(record: "JobRecord") -> str | None:
    if record.ran_on is None or record.ran_on.provider is None:
        return None
    return record.ran_on.provider + (" (simulated)" if record.ran_on.simulated else "")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        numeric = column in ("progress", "voxels", "volume ml", "seconds", "share", "MB", "workers")
        fold = column in ("description", "labels")
        # An id that is cut short is of no use: other columns give way first.
        least = 36 if column == "id" else None
        table.add_column(column, justify="right" if numeric else "left", no_wrap=not fold, min_width=least)
    return table


def _stage_rank(stage: str) -> int:
    return _STAGES.index(stage) if stage in _STAGES else len(_STAGES) + (stage == "rest")


def _age(moment: datetime | None) -> str:
    if moment is None:
        return ""
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(choice) for choice in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "$ref" in schema:
        return "object"
    return str(schema.get("type", ""))
