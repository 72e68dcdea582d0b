"""Answers: a job's result with `success` and `metadata` around it, as every dialect of pictures gives it."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

from pydantic import Field

from api.views import API, ArtifactView, View, job_view
from fleet.contracts import Job, JobError, JobState, ShownState


class MetadataView(View):
    inference_time_ms: float | None = Field(description="in the network, with waiting for a batch; null until then")
    cached: bool | None = Field(description="whether the model was loaded already")
    model: str
    version: int
    device: str | None


class InferenceView(View):
    id: UUID
    state: ShownState
    progress: float = Field(description="0 to 1; of many pictures, those that are done")
    task: str
    success: bool | None = Field(description="null until the job has ended")
    result: dict[str, Any] | None
    metadata: MetadataView
    artifacts: list[ArtifactView]
    error: JobError | None


def metadata_of(job: Job) -> MetadataView:
    infer_s, ran_on = job.timings.get("infer"), job.ran_on
    return MetadataView(
        inference_time_ms=None if infer_s is None else round(infer_s * 1000, 3),
        cached=ran_on.cached if ran_on is not None else None,
        model=job.model,
        version=job.version,
        device=ran_on.device if ran_on is not None else None,
    )


def inference_view(job: Job, base_url: str) -> InferenceView:
    return InferenceView(
        id=job.id,
        state=job.shown_state,
        progress=job.progress,
        task=job.task,
        success=job.state is JobState.SUCCEEDED if job.state.ended else None,
        result=job.result,
        metadata=metadata_of(job),
        artifacts=job_view(job, base_url).artifacts,
        error=job.error,
    )


def wrapped(job: Job, base_url: str) -> dict[str, Any]:
    """Of a job that has ended: {"success", "result", "metadata"}, and `error` or `artifacts` where there are."""
    succeeded = job.state is JobState.SUCCEEDED
    answer: dict[str, Any] = {
        "success": succeeded,
        "result": job.result if succeeded else None,
        "metadata": metadata_of(job).model_dump(mode="json"),
    }
    if job.error is not None and not succeeded:
        answer["error"] = {"code": job.error.code, "message": job.error.message}
    if succeeded and job.artifacts:
        where = f"{base_url}{API}/jobs/{job.id}/artifacts"
        answer["artifacts"] = [
            {
                "name": artifact.name,
                "size": artifact.object.size,
                "media_type": artifact.object.media_type,
                "url": f"{where}/{quote(artifact.name, safe='')}",
            }
            for artifact in job.artifacts
        ]
    return answer
