"""What callers get to see of models: cards, versions on their way in, and where they are loaded."""

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from api.model_loading import Standing
from api.views import Moment, View
from fleet.card import Card
from fleet.catalogue import Entry
from fleet.contracts import DevicePolicy, JobError, Lane, MediaKind, Pool, ResultKind
from fleet.model_records import Desire, Desired, HousedVersion
from fleet.model_source import AtUrl, InWheel, ModelSource, OnGitHub, OnHub, Trained, Uploaded
from fleet.tensors import TensorSpec

VersionState = Literal["requested", "importing", "ready", "failed", "removing"]


class ModelView(View):
    name: str
    version: int = Field(description="the one that was asked for; else that of `default`, else the highest")
    versions: list[int] = Field(description="that can be served")
    aliases: dict[str, int]
    task: str
    description: str
    licence: str
    accepts: MediaKind
    returns: ResultKind
    params_schema: dict[str, Any]
    lane: Lane
    device: DevicePolicy
    size_bytes: int
    sha256: str
    labels: dict[int, str]
    execution_timeout_s: float
    deadline_s: float | None
    max_attempts: int
    expected_s: dict[Pool, float] = Field(description="of a typical job, as the card says: used until it was measured")
    inputs: list[TensorSpec] = Field(description="of its graph; none for models that are more than one graph")
    outputs: list[TensorSpec]
    max_batch_size: int = Field(description="0: the graph has no batch dimension")
    example: dict[str, Any] | None = Field(description="params (and inputs) of a request that works")
    unloaded: bool = Field(description="taken out of service until it is loaded again")
    ready_workers: int = Field(description="that can take its jobs")


class FileView(View):
    path: str
    size: int = Field(description="bytes")
    sha256: str | None


class VersionView(View):
    """A version that was brought in, or one of the workers' own folders."""

    name: str
    version: int
    state: VersionState
    stage: str | None = Field(description="of the import")
    progress: float = Field(description="0 to 1, of the bytes that are to be fetched")
    done_bytes: int
    total_bytes: int | None
    source: dict[str, Any] = Field(description="`kind` is `folder` for one of the workers' own folders")
    aliases: list[str] = Field(description="that point to it, or will once it is ready")
    files: list[FileView] = Field(description="in the object store, once they are there")
    report: dict[str, Any] | None = Field(description="what its check has found")
    error: JobError | None = Field(description="why its import failed")
    created_at: Moment | None
    changed_at: Moment | None


class ModelListView(View):
    models: list[ModelView]
    arriving: list[VersionView] = Field(description="versions that cannot be served: on their way in, or failed")


class VersionListView(View):
    versions: list[VersionView]


class WorkerStateView(View):
    worker: str
    pool: Pool
    device: str
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"] | None = Field(
        description="null: it loads it when a job needs it"
    )
    reason: str
    generation: int
    memory_bytes: int | None
    provider: str = Field(description="the execution provider in use; empty: it is not loaded")
    choice: str = Field(description="why that one, where it was measured")
    fallback: str = Field(description="the provider asked for and the one used in its place, and why")


class VersionStatusView(View):
    version: int
    state: VersionState
    stage: str | None
    progress: float
    error: JobError | None
    aliases: list[str]
    desire: Desire | None = Field(description="null: loaded when a job needs it; evicted: so, after it went once")
    generation: int | None = Field(description="of the desire: workers tell which they have followed")
    loaded_workers: int
    workers: list[WorkerStateView] = Field(description="that live and could serve it")


class ModelStatusView(View):
    name: str
    default_version: int | None = Field(description="what a request without a version gets")
    aliases: dict[str, int]
    versions: list[VersionStatusView]


class AliasView(View):
    name: str
    alias: str
    version: int


def model_view(entry: Entry) -> ModelView:
    card = entry.card
    fields = {name: getattr(card, name) for name in ModelView.model_fields if name in Card.model_fields}
    return ModelView(
        **fields,
        versions=entry.versions,
        aliases=entry.aliases,
        unloaded=entry.unloaded,
        ready_workers=entry.ready_workers,
    )


def version_view(housed: HousedVersion, aliases: dict[str, int]) -> VersionView:
    """`aliases` of the model."""
    total = housed.total_bytes
    done = 1.0 if housed.state == "ready" else min(1.0, housed.done_bytes / total) if total else 0.0
    pointing = {alias for alias, version in aliases.items() if version == housed.version}
    return VersionView(
        name=housed.name,
        version=housed.version,
        state=housed.state,
        stage=housed.stage,
        progress=round(done, 4),
        done_bytes=housed.done_bytes,
        total_bytes=total,
        source=_source(housed.source),
        aliases=sorted(pointing if housed.state == "ready" else housed.aliases),
        files=[FileView(path=file.path, size=file.size, sha256=file.sha256) for file in housed.files],
        report=housed.report,
        error=None if housed.error is None else JobError.model_validate(housed.error),
        created_at=housed.created_at,
        changed_at=housed.changed_at,
    )


def folder_view(card: Card, aliases: dict[str, int]) -> VersionView:
    """Of a version that lies in a folder of the workers."""
    return VersionView(
        name=card.name,
        version=card.version,
        state="ready",
        stage=None,
        progress=1.0,
        done_bytes=0,
        total_bytes=None,
        source={"kind": "folder"},
        aliases=sorted(alias for alias, version in aliases.items() if version == card.version),
        files=[],
        report=None,
        error=None,
        created_at=None,
        changed_at=None,
    )


def status_view(view: VersionView, desired: Desired | None, found: list[Standing]) -> VersionStatusView:
    return VersionStatusView(
        version=view.version,
        state=view.state,
        stage=view.stage,
        progress=view.progress,
        error=view.error,
        aliases=view.aliases,
        desire=desired.desire if desired else None,
        generation=desired.generation if desired else None,
        loaded_workers=sum(at.ready for at in found),
        workers=[_worker_state(at) for at in found],
    )


def _worker_state(at: Standing) -> WorkerStateView:
    word, state = at.worker.word, at.state
    return WorkerStateView(
        worker=word.name,
        pool=word.pool,
        device=word.device,
        state=state.state if state else None,
        reason=state.reason if state else "",
        generation=state.generation if state else 0,
        memory_bytes=state.memory_bytes if state else None,
        provider=state.provider if state else "",
        choice=state.choice if state else "",
        fallback=state.fallback if state else "",
    )


def _source(source: ModelSource) -> dict[str, Any]:
    """Without the queries of URLs, which may be signatures, and without keys of the object store."""
    match source:
        case Uploaded():
            files = [
                {"path": file.path, "size": file.object.size, "sha256": file.object.sha256} for file in source.files
            ]
            return {"kind": source.kind, "files": files}
        case Trained():
            return source.model_dump(mode="json") | {"checkpoint_url": _shown(source.checkpoint_url)}
        case AtUrl() | InWheel():
            return source.model_dump(mode="json") | {"url": _shown(source.url) if source.url else None}
        case OnGitHub() | OnHub():
            return source.model_dump(mode="json")


def _shown(url: str) -> str:
    return urlsplit(url)._replace(query="", fragment="").geturl()
