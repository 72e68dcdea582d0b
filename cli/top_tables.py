"""`fleet top` as people see it: a header, the queues, and the workers with what they run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from cli.durations import roughly

if TYPE_CHECKING:
    from fleet_client import FleetStatus, QueuesStatus, QueueStatus, RunningStatus, WorkerStatus
    from fleet_client.fleet_status import PoolStatus

#: From so many columns on nothing needs to be shortened.
_WIDE = 110
_GB = 1e9
#: CPU workers begin to help at the low end.
_PRIORITIES = ["low", "normal", "high", "urgent"]


@dataclass(frozen=True)
class Shown:
    """What was asked last, and when by this machine's clock."""

    fleet: "FleetStatus"
    queues: "QueuesStatus"
    at: datetime


def screen(shown: Shown, server: str, width: int, lines: int | None = None, trouble: str | None = None) -> Group:
    """`lines`: of the terminal, so that as much is left out as needs be; None: everything is shown."""
    header, queues = _header(shown, server, width, trouble), shown.queues.queues
    room = None if lines is None else max(2, lines - len(header.plain.splitlines()) - len(queues) - 6)
    return Group(header, "", _queues(queues, width), "", *_workers(shown.fleet, width, room))


def _header(shown: Shown, server: str, width: int, trouble: str | None) -> Text:
    fleet, queues = shown.fleet, shown.queues
    text = Text()
    text.append(f"Fleet at {server}", style="bold")
    text.append(f"  {shown.at:%H:%M:%S}\n")
    if trouble is not None:
        text.append(f"{trouble}\n", style="bold red")
    for server_name in dict.fromkeys([*fleet.unavailable, *queues.unavailable]):
        text.append(f"{server_name} does not answer: what it knows is missing here\n", style="red")
    text.append_text(_totals(fleet, " · " if width >= _WIDE else "\n"))
    age_s = queues.traffic_age_s
    if age_s is None or age_s > 5:
        since = "" if age_s is None else f" for {roughly(age_s)}"
        text.append(f"\nno leader has looked at the queues{since}: their figures are old", style="yellow")
    for lane in queues.lanes:
        if lane.waiting:
            yours = f", {lane.yours:,} of them yours" if lane.yours else ""
            text.append(f"\n{lane.lane}: {lane.waiting:,} waiting{yours}")
            if lane.limit and lane.waiting >= 0.9 * lane.limit:
                text.append(f", at most {lane.limit:,}", style="yellow")
    return text


def _totals(fleet: "FleetStatus", between: str) -> Text:
    text = Text()
    if fleet.pools is None:
        return text
    if not any(pool.workers for pool in fleet.pools):
        return text.append("no worker is alive", style="yellow")
    return text.append(between.join(_pool(pool) for pool in fleet.pools if pool.workers))


def _pool(pool: "PoolStatus") -> str:
    counts = {"simulated": pool.simulated, "draining": pool.draining}
    remarks = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    workers = f"{pool.workers} {pool.pool.upper()} worker{'' if pool.workers == 1 else 's'}"
    return f"{workers}{f' ({remarks})' if remarks else ''}, {pool.running} of {pool.slots} slots busy"


def _queues(queues: Sequence["QueueStatus"], width: int) -> RenderableType:
    if not queues:
        return Text("nothing waits", style="dim")
    rows = [_queue(queue, wide=width >= _WIDE) for queue in queues]
    return _table(("queue", "jobs", "held", "oldest", "wait", "taken by"), rows, width, first=26)


def _queue(queue: "QueueStatus", *, wide: bool) -> list[Text]:
    jobs = None if queue.published is None else queue.published + (queue.held or 0)
    wait = Text("nobody", style="yellow") if queue.wait_s is None and jobs else Text(_seconds(queue.wait_s))
    return [
        Text(queue.name),
        Text(_count(queue.messages if jobs is None else jobs)),
        Text(_count(queue.held or None)),
        Text(_seconds(queue.oldest_s)),
        wait,
        _takers(queue, wide=wide),
    ]


def _takers(queue: "QueueStatus", *, wide: bool) -> Text:
    unit = (" worker" if queue.workers == 1 else " workers") if wide or not queue.helpers else ""
    text = Text("" if queue.workers is None else f"{queue.workers}{unit}")
    if queue.helpers:
        text.append(f", {len(queue.helpers)} helping" + (f": {queue.help_why}" if wide else ""), style="cyan")
    if queue.aged:
        text.append(f", {queue.aged} aged", style="dim")
    return text


def _workers(fleet: "FleetStatus", width: int, room: int | None) -> list[RenderableType]:
    workers = sorted(fleet.workers or (), key=lambda worker: (-worker.running, worker.pool != "gpu", worker.name))
    if not workers:
        return []
    runs: dict[str, list[RunningStatus]] = {}
    for job in fleet.running or ():
        runs.setdefault(job.worker, []).append(job)
    # Of many workers each has one line, and then the busy ones go first.
    lines = None if room is None else max(1, room // len(workers))
    shown = workers[:room]
    rows = [_worker(worker, runs.get(worker.name, ()), lines, wide=width >= _WIDE) for worker in shown]
    table = _table(("worker", "device", "busy", "memory", "runs"), rows, width, first=28 if width >= _WIDE else 16)
    left = len(workers) - len(shown)
    return [table, *([Text(f"and {left} more workers", style="dim")] if left else [])]


def _worker(worker: "WorkerStatus", jobs: Sequence["RunningStatus"], lines: int | None, *, wide: bool) -> list[Text]:
    cells = [
        _name(worker),
        _device(worker),
        [Text(f"{worker.running}/{worker.slots}")],
        _memory(worker, wide=wide),
        _runs(worker, jobs, wide=wide),
    ]
    return [Text("\n").join(cell[:lines]) for cell in cells]


def _name(worker: "WorkerStatus") -> list[Text]:
    lanes = Text(" ".join(worker.lanes), style="dim")
    return [Text(worker.name), Text("draining", style="yellow") if worker.draining else lanes]


def _device(worker: "WorkerStatus") -> list[Text]:
    style = "magenta" if worker.simulated else ""
    provider = worker.provider.removesuffix("ExecutionProvider")
    return [
        Text(worker.device, style=style),
        Text("simulated", style=style) if worker.simulated else Text(provider, "dim"),
    ]


def _memory(worker: "WorkerStatus", *, wide: bool) -> list[Text]:
    """Of the GPU where there is one, else what runs were granted; below it what the process holds."""
    used, whole = worker.device_used_bytes, worker.device_memory_bytes
    if not whole:
        used, whole = worker.memory_granted_bytes, worker.memory_usable_bytes
    lines = []
    if whole:
        lines.append(
            _bar((used or 0) / whole, 10 if wide else 4).append(f" {(used or 0) / _GB:.0f}/{whole / _GB:.0f} GB")
        )
    if worker.rss_bytes:
        lines.append(Text(f"process {worker.rss_bytes / _GB:.1f} GB", style="dim"))
    return lines


def _runs(worker: "WorkerStatus", jobs: Sequence["RunningStatus"], *, wide: bool) -> list[Text]:
    lines = []
    for job in jobs:
        text = _bar(job.progress, 10 if wide else 4).append(f" {roughly(job.seconds):>6} ")
        text.append(job.model, style="bold")
        if wide:
            text.append(f" {job.stage}" if job.stage else "")
            text.append(f" {job.priority} {job.id or ''}".rstrip(), style="dim")
        lines.append(text)
    lines += [Text(told + (f": {why}" if wide else ""), style="cyan") for told, why in _helping(worker)]
    if worker.loaded:
        names = ", ".join(worker.loaded[:3]) + (f" and {len(worker.loaded) - 3} more" if len(worker.loaded) > 3 else "")
        lines.append(Text(f"loaded {names}", style="dim"))
    return lines or [Text(f"idle, {worker.models} models", style="dim")]


def _helping(worker: "WorkerStatus") -> list[tuple[str, str]]:
    """(what it does for the GPUs, why), the queues of one lane together."""
    asked: dict[tuple[str, str, str], list[str]] = {}
    for one in worker.helping:
        lane, _, priority = one.queue.rpartition(".")
        asked.setdefault(("helps" if one.joined else "asked to help", lane, one.why), []).append(priority)
    return [
        (f"{verb} {lane} {' '.join(sorted(priorities, key=_rank))}", why)
        for (verb, lane, why), priorities in asked.items()
    ]


def _rank(priority: str) -> int:
    return _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)


def _bar(part: float, cells: int) -> Text:
    full = round(min(1.0, max(0.0, part)) * cells)
    return Text.assemble(("█" * full, "green"), ("░" * (cells - full), "dim"))


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "" if value is None else roughly(value)


def _table(headings: Sequence[str], rows: Sequence[Sequence[Text]], width: int, first: int) -> Table:
    """Each column as wide as it needs to be; the first two at most so wide; the last one has what is left."""
    longest = [
        max([len(heading), *(len(line) for row in rows for line in row[place].plain.splitlines())])
        for place, heading in enumerate(headings)
    ]
    widths = [min(length, first) if place < 2 else length for place, length in enumerate(longest[:-1])]
    widths.append(max(10, min(longest[-1], width - sum(widths) - 2 * len(widths))))
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading, cells in zip(headings, widths, strict=True):
        numeric = heading in ("jobs", "held", "oldest", "wait", "busy")
        justify: JustifyMethod = "right" if numeric else "left"
        table.add_column(heading, justify=justify, no_wrap=True, overflow="ellipsis", width=cells)
    for row in rows:
        table.add_row(*row)
    return table
