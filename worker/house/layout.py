"""Whatever came, as a model's folder: <name>/model.yaml, config.pbtxt, ... and <name>/<version>/model.onnx.

Taken are a graph with or without files beside it, a version's folder, a whole model's folder, and the hub's way with
the graph in `onnx/`; for a task of several graphs, all that lie in one folder. Runs in the house's child process
(`child`), since which files are weights is said in the graph.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet.contracts import Lane
from fleet.errors import ModelError
from fleet.tensors import TASK_NAME
from worker.engine.manifest import MANIFEST_NAME, read_fields
from worker.engine.model_version import takes_several
from worker.house.scan import references
from worker.tasks import find_tasks

GRAPH_NAME, CONFIG_NAME = "model.onnx", "config.pbtxt"


@dataclass(frozen=True)
class Wish:
    """What the request says of the version that came."""

    version: int
    note: str
    #: Those that were asked for, of one folder; none: as it is found.
    graphs: Sequence[str] = ()
    manifest: dict[str, Any] | None = None
    labels: dict[int, str] | None = None


def lay_out(came: Path, folder: Path, wish: Wish) -> str:
    """Moves what came into `folder`; says in words what was made of it.

    Raises ModelError `graph-missing`, `graph-ambiguous`, `manifest-invalid`, and what a scan of the graph raises.
    """
    root = came if wish.graphs else _unwrapped(came)
    target = folder / str(wish.version)
    target.mkdir(parents=True)
    found = _version_folder(root, wish.version)
    several = _takes_several(root, wish)
    if found is not None and not wish.graphs:
        told = f"version {found.name} of a model's folder"
        graphs = _graphs(found, wish, several=several)
        _move(found, target)
        graphs = [target / graph.relative_to(found) for graph in graphs]
        for other in root.iterdir():
            if other.is_dir() and _is_number(other.name):
                shutil.rmtree(other)
        _move(root, folder)
    else:
        graphs = _asked(came, wish, several=several) if wish.graphs else _graphs(root, wish, several=several)
        listed = ", ".join(graph.relative_to(root).as_posix() for graph in graphs)
        told = f"the graph{'s' if len(graphs) > 1 else ''} {listed} and what came with {'them' if several else 'it'}"
        beside = graphs[0].parent
        # The data first: it is named relative to the graph.
        for name in [name for graph in graphs for name in references(graph)]:
            if (beside / name).is_file():
                _place(beside / name, target / name)
        for graph in graphs:
            _place(graph, target / graph.name)
        graphs = [target / graph.name for graph in graphs]
        if beside != root:
            _move(beside, folder)
        _move(root, folder)
    _describe(folder, wish)
    if not several and "graph" not in (wish.manifest or {}) and graphs[0].parent == target and not _says_graph(folder):
        graphs[0].replace(target / GRAPH_NAME)
    return told


def _takes_several(root: Path, wish: Wish) -> bool:
    """Whether the task that is named, by the request or by what came, may have several graphs."""
    fields = (_read(root / MANIFEST_NAME) or {}) | (wish.manifest or {})
    return takes_several(find_tasks().get(str(fields.get("task"))))


def _asked(came: Path, wish: Wish, *, several: bool) -> list[Path]:
    if len(wish.graphs) > 1 and not several:
        raise ModelError(
            f"{', '.join(wish.graphs)} cannot be one version: nothing names a task that takes several graphs. Name it "
            "as `task` in the manifest, or ask for one of them",
            code="graph-ambiguous",
            graphs=list(wish.graphs),
        )
    return [came / graph for graph in wish.graphs]


def _graphs(root: Path, wish: Wish, *, several: bool) -> list[Path]:
    """The only one; where several may be, all that lie in one folder."""
    graphs = sorted(root.rglob("*.onnx"))
    if several and len({graph.parent for graph in graphs}) == 1:
        return graphs
    return [_named(root, wish) or _only_graph(graphs, root)]


def _unwrapped(came: Path) -> Path:
    """Archives often hold one folder with everything in it."""
    entries = list(came.iterdir())
    while len(entries) == 1 and entries[0].is_dir() and not _is_number(entries[0].name):
        came = entries[0]
        entries = list(came.iterdir())
    return came


def _version_folder(root: Path, version: int) -> Path | None:
    numbers = {int(entry.name): entry for entry in root.iterdir() if entry.is_dir() and _is_number(entry.name)}
    holding = {number: entry for number, entry in numbers.items() if any(entry.rglob("*.onnx"))}
    if not holding:
        return None
    return holding.get(version) or holding[max(holding)]


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and not name.startswith("0")


def _named(root: Path, wish: Wish) -> Path | None:
    """The graph that a manifest names, where it is there."""
    said = (wish.manifest or {}).get("graph", GRAPH_NAME)
    graph = root / str(said)
    return graph / GRAPH_NAME if (graph / GRAPH_NAME).is_file() else graph if graph.is_file() else None


def _only_graph(graphs: Sequence[Path], root: Path) -> Path:
    if not graphs:
        raise ModelError(
            "what came holds no ONNX file: pack model.onnx, a version's folder, or a model's folder",
            code="graph-missing",
        )
    if len(graphs) > 1:
        names = [graph.relative_to(root).as_posix() for graph in graphs[:32]]
        raise ModelError(
            f"what came holds several graphs: keep one of them, or call it {GRAPH_NAME}: {', '.join(names)}",
            code="graph-ambiguous",
            graphs=names,
        )
    return graphs[0]


def _move(source: Path, target: Path) -> None:
    """Everything in a folder; what is there already stays as it is."""
    for entry in sorted(source.iterdir()):
        if not (target / entry.name).exists():
            entry.rename(target / entry.name)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _describe(folder: Path, wish: Wish) -> None:
    """model.yaml: what came with it, the request's fields above that, and where it is from."""
    path, config = folder / MANIFEST_NAME, folder / CONFIG_NAME
    fields = (_read(path) or {}) | (wish.manifest or {})
    # What it came with need not serve this number.
    fields.pop("versions", None)
    labels = wish.labels or _hub_labels(folder)
    if labels:
        fields.setdefault("labels", labels)
    if not fields:
        return
    if "task" not in fields:
        # As a folder in which nothing says what to do with the graph: served as it is, the rest filled in from it.
        fields = {"task": TASK_NAME, "lane": Lane.INTERACTIVE.value} | fields
        if not config.exists():
            config.write_text("# What is left out is filled in from the graph.\n", "utf-8")
    source = fields.get("source") or {}
    if isinstance(source, dict):
        fields["source"] = {"note": wish.note} | source
    path.write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), "utf-8")


def _read(path: Path) -> dict[str, Any] | None:
    return read_fields(path) if path.is_file() else None


def _says_graph(folder: Path) -> bool:
    fields = _read(folder / MANIFEST_NAME) or {}
    if "graph" in fields:
        return True
    config = folder / CONFIG_NAME
    return config.is_file() and "default_model_filename" in config.read_text("utf-8", "replace")


def _hub_labels(folder: Path) -> dict[int, str]:
    """`id2label` of a model that Transformers has saved."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        told = json.loads((folder / "config.json").read_text("utf-8")).get("id2label")
        labels = {int(number): str(label) for number, label in told.items()}
        if all(0 <= number <= 65535 for number in labels):
            return labels
    return {}
