"""Models as people read them: versions, where they are loaded, how they do."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cli.tables import facts

if TYPE_CHECKING:
    from fleet_client import ModelMetrics, ModelStatus, ModelUsage, ModelVersion, ModelVersionStatus, Quantiles


def versions(found: Iterable["ModelVersion"]) -> Table:
    table = _table("version", "state", "from", "aliases", "since", "")
    for version in found:
        since = "" if version.changed_at is None else f"{version.changed_at.astimezone():%Y-%m-%d %H:%M}"
        why = version.error.message if version.error else ""
        table.add_row(
            str(version.version), step(version), _place(version), ", ".join(version.aliases), since, Text(why)
        )
    return table


def arriving(found: Iterable["ModelVersion"]) -> Table:
    """Versions of several models, on their way in or failed."""
    table = _table("model", "state", "from", "")
    for version in found:
        why = version.error.message if version.error else ""
        table.add_row(f"{version.name}@{version.version}", step(version), _place(version), Text(why))
    return table


def step(version: "ModelVersion | ModelVersionStatus") -> str:
    """Where it is, in a few words."""
    share = f" {version.progress:.0%}" if version.state == "importing" and version.progress else ""
    return f"{version.state}: {version.stage}{share}" if version.stage else version.state


def status(found: "ModelStatus") -> Table:
    """One row per version and worker."""
    table = _table("version", "state", "aliases", "asked for", "worker", "device", "there", "MB", "")
    for version in found.versions:
        default = ["(default)"] if version.version == found.default_version and "default" not in version.aliases else []
        head = [str(version.version), step(version), ", ".join([*version.aliases, *default]), version.desire or ""]
        why = version.error.message if version.error else ""
        if not version.workers:
            table.add_row(*head, "", "", "", "", Text(why))
        for worker in version.workers:
            memory = "" if worker.memory_bytes is None else f"{worker.memory_bytes / 1e6:.0f}"
            state = worker.state or "when needed"
            table.add_row(
                *head,
                worker.worker,
                worker.device or "",
                state,
                memory,
                Text(worker.reason or why or worker.fallback or worker.choice),
            )
            head = ["", "", "", ""]
    return table


def metrics(found: "ModelMetrics") -> Table:
    errors = ", ".join(f"{code} {count}" for code, count in sorted(found.errors.items()))
    batch = None if found.mean_batch_size is None else f"{found.mean_batch_size:.2f}"
    return facts(
        [
            ("model", found.name if found.version is None else f"{found.name}@{found.version}"),
            ("window", f"{found.window_s:,.0f} s"),
            ("jobs", f"{found.jobs:,} ({found.per_s:.3g} per second)"),
            ("ended", ", ".join(f"{state} {count:,}" for state, count in sorted(found.states.items()))),
            ("errors", errors),
            ("submit to end", _quantiles(found.total_s)),
            ("in the model", _quantiles(found.infer_s)),
            ("batch size", batch),
        ]
    )


def usage(found: Iterable["ModelUsage"]) -> Table:
    """Since ever."""
    table = _table("version", "succeeded", "failed", "runs", "items", "items per run", "model s", "last")
    for used in found:
        table.add_row(
            str(used.version),
            f"{used.success:,}",
            f"{used.failure:,}",
            f"{used.runs:,}",
            f"{used.items:,}",
            "" if used.mean_batch_size is None else f"{used.mean_batch_size:.2f}",
            f"{used.infer_s:,.1f}",
            "" if used.last_at is None else f"{used.last_at.astimezone():%Y-%m-%d %H:%M:%S}",
        )
    return table


def _quantiles(found: "Quantiles | None") -> str | None:
    if found is None:
        return None
    return ", ".join(f"{name} {getattr(found, name):.3g} s" for name in ("p50", "p95", "p99"))


def _place(version: "ModelVersion") -> str:
    """What its source says first: a repository, a URL, a package."""
    source = version.source
    kind = str(source.get("kind", ""))
    for field in ("repository", "url", "checkpoint_url", "package"):
        if source.get(field):
            return f"{kind} {source[field]}"
    return kind


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
