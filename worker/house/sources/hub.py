"""A repository of the Hugging Face hub, or of a mirror that speaks as it does (`HF_ENDPOINT`).

Asked are `/api/models/{repository}/revision/{revision}?blobs=true` for the files, their sizes and SHA-256, and
`/{repository}/resolve/{commit}/{path}` for each of them. Only what serving needs is taken: one graph with its external
data, or those that were asked for, and small text beside it; never a checkpoint or a program.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from fleet.download import Asked
from fleet.errors import ModelError
from fleet.model_source import InnerPath, OnHub
from fleet.partial import Known
from worker.house.sources.desk import Desk, Fetched

_PATH: TypeAdapter[str] = TypeAdapter(InnerPath)
#: Beside the graph: configuration, vocabularies, labels.
_TEXT = frozenset({".json", ".txt", ".yaml", ".yml", ".pbtxt", ".model", ".jinja"})
_TEXT_BYTES = 64 * 1024**2
_NAMED = frozenset({"LICENSE", "LICENSE.md", "README.md", "LICENCE"})


@dataclass(frozen=True)
class _Listed:
    path: str
    size: int | None
    sha256: str | None


def fetch_from_hub(source: OnHub, desk: Desk) -> Fetched:
    """Raises ModelError `graph-missing` and `graph-ambiguous`, which names the graphs, besides what downloads raise."""
    commit, listed = _listing(source.repository, source.revision, desk)
    graphs = _graphs(source, [file.path for file in listed])
    by_path = {file.path: file for file in listed}
    chosen = [*(by_path[graph] for graph in graphs), *(file for file in listed if _is_wanted(file, graphs[0]))]
    total, done = sum(file.size or 0 for file in chosen), 0
    for number, file in enumerate(chosen):
        known = Known(file.sha256, file.size)
        fetch_hub_file(source.repository, commit, file.path, desk.after(done, total), known=known)
        done += file.size or 0
        if number < len(graphs):
            # What weights lie outside of the graph is said in it alone; several may share a file of them.
            data = [entry for entry in _data_of(file.path, desk, by_path) if entry not in chosen]
            chosen += data
            total += sum(entry.size or 0 for entry in data)
    return Fetched(f"hub:{source.repository}@{commit}", graphs=graphs)


def fetch_hub_file(
    repository: str, revision: str, path: str, desk: Desk, *, known: Known | None = None, to: str | None = None
) -> Known:
    """One file of a repository, to `to` or the same path."""
    url = f"{_endpoint(desk)}/{repository}/resolve/{quote(revision, safe='')}/{quote(path)}"
    return desk.download(_asked(url, desk), to or path, known)


def _listing(repository: str, revision: str, desk: Desk) -> tuple[str, list[_Listed]]:
    url = f"{_endpoint(desk)}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    told: Any = desk.downloads.document(_asked(url, desk), desk.watch).json()
    try:
        commit = str(told["sha"])
        return commit, [_listed(entry) for entry in told["siblings"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise ModelError(
            f"the hub's list of {repository} cannot be read: is HF_ENDPOINT a hub?", code="source-unreadable"
        ) from error


def _listed(entry: dict[str, Any]) -> _Listed:
    lfs = entry.get("lfs") or {}
    return _Listed(_PATH.validate_python(entry["rfilename"]), entry.get("size"), lfs.get("sha256"))


def _graphs(source: OnHub, paths: list[str]) -> list[str]:
    graphs = sorted(path for path in paths if path.endswith(".onnx"))
    where = f"{source.repository} at {source.revision}"
    if asked := source.graphs or ([] if source.onnx is None else [source.onnx]):
        if missing := [graph for graph in asked if graph not in paths]:
            raise ModelError(
                f"{where} has no {', '.join(missing)}; its graphs: {', '.join(graphs) or 'none'}", code="graph-missing"
            )
        return asked
    if not graphs:
        raise ModelError(
            f"{where} has no ONNX file: name a repository that has one, or export the model and upload it",
            code="graph-missing",
        )
    if len(graphs) > 1:
        raise ModelError(
            f"{where} has several graphs: say with `onnx` which one, or with `graphs` which ones for a task that takes "
            f"several: {', '.join(graphs[:32])}",
            code="graph-ambiguous",
            graphs=graphs[:32],
        )
    return graphs


def _is_wanted(file: _Listed, graph: str) -> bool:
    """Small text in the repository's root and in the graph's folder."""
    path = PurePosixPath(file.path)
    text = path.suffix in _TEXT or path.name in _NAMED
    beside = path.parent in (PurePosixPath(), PurePosixPath(graph).parent)
    return text and beside and not path.name.startswith(".") and (file.size or 0) <= _TEXT_BYTES


def _data_of(graph: str, desk: Desk, listed: dict[str, _Listed]) -> list[_Listed]:
    named = [str(PurePosixPath(graph).parent / name) for name in desk.references(desk.folder / graph)]
    return [listed[name] for name in named if name in listed]


def _endpoint(desk: Desk) -> str:
    return desk.settings.hf_endpoint.rstrip("/")


def _asked(url: str, desk: Desk) -> Asked:
    return Asked(url, secret=desk.settings.hf_token.get_secret_value(), own=True)
