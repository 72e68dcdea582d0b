"""What callers get to see, as types: jobs, tickets, models. See docs/reference/http.md."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlsplit
from uuid import UUID

from fastapi import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.forecasts import Forecast
from api.foresight import Range
from fleet.contracts import (
    AttemptNote,
    Callback,
    Job,
    JobError,
    JobInput,
    Lane,
    ObjectRef,
    PriorityName,
    RanOn,
    ShownState,
)
from fleet.cost import Basis

API = "/api/v1"
#: Of a prefix there may be a thousand, and the job is told again with every step.
SHOWN_INPUTS = 256
#: What is farther away than ten years is shown as that.
_FAR_S = 10 * 365 * 86400.0
#: The database answers in its own time zone; callers read UTC.
Moment = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


def location(base_url: str, path: str) -> str:
    """The path of a resource for `Location`, behind a proxy that adds a prefix too."""
    return f"{urlsplit(base_url).path}{API}/{path}"


class View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def answer(self, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """As it is: FastAPI would validate and dump a second time."""
        return Response(self.model_dump_json(), status, headers, "application/json")


class InputView(View):
    name: str | None
    size: int = Field(description="bytes")
    media_type: str
    sha256: str | None


class ArtifactView(View):
    name: str
    size: int = Field(description="bytes")
    sha256: str | None
    media_type: str
    url: str


class SpanView(View):
    """As likely earlier as later than expected; four times of five from earliest to latest."""

    earliest: Moment
    expected: Moment
    latest: Moment


class ForecastView(View):
    at: Moment = Field(description="when it was made, by the clock of its moments")
    position: int | None = Field(description="in its queue: 1 starts next; null once it runs, and right after a submit")
    position_at_least: bool = Field(description="the position was counted no further")
    start: SpanView | None = Field(description="null once it runs, and while nobody can take it")
    end: SpanView | None = Field(description="null while nobody can take it")
    basis: Basis | None = Field(description="what the time that the job takes goes by")
    why: str | None = Field(description="why nobody can take it")


class JobView(View):
    id: UUID
    task: str
    model: str
    version: int
    state: ShownState
    stage: str | None
    progress: float = Field(description="0 to 1")
    priority: PriorityName
    lane: Lane
    queue: str
    params: dict[str, Any]
    inputs: list[InputView] = Field(description=f"the first {SHOWN_INPUTS}")
    labels: dict[str, str]
    result: dict[str, Any] | None
    artifacts: list[ArtifactView]
    error: JobError | None
    attempt: int
    max_attempts: int
    cancel_requested: bool
    deadline: Moment | None
    execution_timeout_s: float
    timings: dict[str, float] = Field(description="seconds per stage")
    ran_on: RanOn | None
    route_reason: str
    history: list[AttemptNote] = Field(description="attempts that did not succeed, oldest first")
    retries: int = Field(description="by hand")
    callback: Callback | None
    retention_s: float = Field(description="seconds that it is kept after its end")
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    expires_at: Moment | None = Field(description="when the job is swept, with its inputs and results")
    forecast: ForecastView | None = Field(description="of one that waits or runs, when it is asked for alone")


class JobPageView(View):
    jobs: list[JobView]
    next_cursor: str | None


class PartView(View):
    number: int
    offset: int
    size: int
    url: str


class TicketView(View):
    id: UUID
    state: str = Field(description="pending or complete")
    object: ObjectRef
    method: str = "PUT"
    url: str | None = Field(description="where to PUT the bytes; null when they are there, or go in parts")
    headers: dict[str, str] = Field(default_factory=dict, description="to send with the PUT")
    parts: list[PartView] | None
    expires_at: Moment


def job_view(job: Job, base_url: str, forecast: Forecast | None = None) -> JobView:
    artifacts = [
        ArtifactView(
            name=artifact.name,
            size=artifact.object.size,
            sha256=artifact.object.sha256,
            media_type=artifact.object.media_type,
            url=f"{base_url}{API}/jobs/{job.id}/artifacts/{quote(artifact.name, safe='')}",
        )
        for artifact in job.artifacts
    ]
    return JobView(
        id=job.id,
        task=job.task,
        model=job.model,
        version=job.version,
        state=job.shown_state,
        stage=job.stage,
        progress=job.progress,
        priority=PriorityName[job.priority.name],
        lane=job.lane,
        queue=job.queue,
        params=job.params,
        inputs=[_input_view(item) for item in job.inputs[:SHOWN_INPUTS]],
        labels=job.labels,
        result=job.result,
        artifacts=artifacts,
        error=job.error,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        cancel_requested=job.cancel_requested,
        deadline=job.deadline,
        execution_timeout_s=job.execution_timeout_s,
        timings=job.timings,
        ran_on=job.ran_on,
        route_reason=job.route_reason,
        history=job.history,
        retries=job.retries,
        callback=job.callback,
        retention_s=job.retention_s,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        expires_at=job.expires_at,
        forecast=_forecast_view(forecast) if forecast is not None else None,
    )


def _forecast_view(forecast: Forecast) -> ForecastView:
    def span(seconds: Range | None) -> SpanView | None:
        if seconds is None:
            return None
        earliest, expected, latest = (
            forecast.at + timedelta(seconds=min(value, _FAR_S))
            for value in (seconds.earliest_s, seconds.expected_s, seconds.latest_s)
        )
        return SpanView(earliest=earliest, expected=expected, latest=latest)

    return ForecastView(
        at=forecast.at,
        position=forecast.position,
        position_at_least=forecast.at_least,
        start=span(forecast.start),
        end=span(forecast.end),
        basis=forecast.basis,
        why=forecast.why,
    )


def _input_view(item: JobInput) -> InputView:
    if item.object is not None:
        stored = item.object
        name = stored.name or stored.key
        return InputView(name=name, size=stored.size, media_type=stored.media_type, sha256=stored.sha256)
    if item.kept is not None:
        kept = item.kept
        return InputView(name=kept.name, size=kept.size, media_type=kept.media_type, sha256=kept.sha256)
    if item.link is not None:
        link = item.link
        return InputView(name=link.name, size=link.size, media_type="application/octet-stream", sha256=link.sha256)
    assert item.inline is not None  # noqa: S101 (a row holds one of the four)
    inline = item.inline
    return InputView(name=inline.name, size=item.size, media_type=inline.media_type, sha256=None)
