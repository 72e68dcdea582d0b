"""Which pictures share a job, and each one's own answer in it: what `api/joining.py` asks of the short form.

A shared job has an input for each of its requests. It is a job like any other, and goes on without those who asked.
"""

import copy
import sys
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool

from api.inference.picture_jobs import Wanted
from api.inference.picture_sizes import PictureSizes
from api.inline import read_data
from api.job_items import JobItems
from fleet.card import Card
from fleet.contracts import DevicePolicy, Job, JobError, JobState, MediaKind, Pool, ResultKind, Stage
from fleet.errors import FleetError, InputError, ModelError
from fleet.job_items import ITEMS_NAME, MAX_INLINE_BYTES
from fleet.job_values import fingerprint
from fleet.kept_inputs import MAX_KEPT_TOTAL_BYTES
from fleet.routing import Member

#: Of a picture that shares a job: what a larger one costs by itself is little beside its decoding.
MAX_BYTES = 512 * 1024
_MOST_BYTES = MAX_KEPT_TOTAL_BYTES - MAX_BYTES
#: Of one kind, for each worker: while one runs, the next is under way to it.
_JOBS_A_WORKER = 2
#: Params that make files, and of which the work on one picture is a job's worth.
_BY_THEMSELVES = ("preview", "tiles")
#: A zip is a job of many pictures, which has a list for an answer.
_ZIP = b"PK"
#: What a worker says of a picture that is not the picture's fault.
_MODEL_CODES = frozenset({"result-not-finite"})
_COUNTS = frozenset({"count", "succeeded", "failed", "items", "artifact"})


@dataclass(frozen=True)
class Shareable:
    """A job of one picture that may become a part of another one."""

    wanted: Wanted
    #: Of the loop's clock.
    ends_at: float
    key: Hashable
    #: What sizes are learned by.
    kind: Hashable
    size: int
    workers: int


def shareable(wanted: Wanted, ends_at: float, card: Card, members: Iterable[Member]) -> Shareable | None:
    """None for what is to have a job of its own. Raises ValidationFailed `not-base64` or `empty-input`."""
    request = wanted.request
    if len(request.inputs) != 1 or card.accepts is not MediaKind.IMAGE or card.returns is not ResultKind.ITEMS:
        return None
    (given,) = request.inputs
    if given.data is None or len(given.data) // 4 * 3 > MAX_BYTES:
        return None
    params = request.params
    if any(params.get(name) not in (None, False) for name in _BY_THEMSELVES) or params.get("vectors") == "npy":
        return None
    # What is no base64 spoils nobody's job, and is decoded once.
    read = read_data(given, 0)
    if read.inline.content.startswith(_ZIP):
        return None
    model = f"{card.name}/{card.version}"
    # The whole request, but for the picture.
    same = request.model_dump(mode="json", exclude={"inputs"}, exclude_defaults=True)
    return Shareable(
        wanted=replace(wanted, request=request.model_copy(update={"inputs": [read]})),
        ends_at=ends_at,
        key=(fingerprint(same), wanted.caller.tenant, tuple(wanted.pointers), wanted.question),
        kind=(model, frozenset(params)),
        size=len(read.inline.content),
        workers=_workers(members, card, model),
    )


def _workers(members: Iterable[Member], card: Card, model: str) -> int:
    """That may run the job: see `fleet.routing.route`."""
    pools = [member.pool for member in members if card.lane in member.lanes and model in member.models]
    of_gpus, of_cpus = pools.count(Pool.GPU), pools.count(Pool.CPU)
    match card.device:
        case DevicePolicy.GPU_ONLY:
            return of_gpus
        case DevicePolicy.CPU_ONLY:
            return of_cpus
        case DevicePolicy.PREFER_GPU:
            return of_gpus or of_cpus
    return of_gpus + of_cpus


class SharedPictures:
    """`api.joining.Sharing`, of the jobs of single pictures. An answer is the job, as if it were the request's own."""

    def __init__(self, run: Callable[[Wanted, float], Awaitable[Job]], items: JobItems, sizes: PictureSizes) -> None:
        """`run` takes a job and the time of the loop's clock until which its end is waited for."""
        self._run = run
        self._items = items
        self._sizes = sizes

    def key(self, wanted: Shareable) -> Hashable:
        return wanted.key

    def at_once(self, wanted: Shareable) -> int:
        # One that would be alone in its job anyway waits for nobody.
        return sys.maxsize if self._sizes.most(wanted.kind) == 1 else _JOBS_A_WORKER * max(1, wanted.workers)

    def fitting(self, waiting: Iterable[Shareable]) -> int:
        fitting = size = 0
        for wanted in waiting:
            size += wanted.size
            if fitting and (fitting == self._sizes.most(wanted.kind) or size > _MOST_BYTES):
                break
            fitting += 1
        return fitting

    async def alone(self, wanted: Shareable) -> Job:
        job = await self._run(wanted.wanted, wanted.ends_at)
        if job.state is JobState.SUCCEEDED:
            self._sizes.learn(wanted.kind, job, 1)
        return job

    async def together(self, wanted: Sequence[Shareable]) -> Sequence[Job | FleetError] | None:
        kind, count = wanted[0].kind, len(wanted)
        try:
            job = await self._run(_joined([each.wanted for each in wanted]), min(each.ends_at for each in wanted))
            if job.state is not JobState.SUCCEEDED:
                return None if _maybe_one_s_fault(job) else [job] * count
            items = await self._items_of(job, count)
        except FleetError as error:
            return None if _maybe_alone(error) else [copy.copy(error) for _ in wanted]
        if job.artifacts:
            self._sizes.learn_crowded(kind, count)
        if items is None:
            return None
        self._sizes.learn(kind, job, count)
        return [_own(job, item, count) for item in items]

    async def _items_of(self, job: Job, count: int) -> list[dict[str, Any]] | None:
        """None where they are not what each would get by itself: some answers go to files where they are many."""
        if not job.artifacts:
            items: list[dict[str, Any]] = (job.result or {}).get("items", [])
        elif [artifact.name for artifact in job.artifacts] == [ITEMS_NAME]:
            lines = await run_in_threadpool(lambda: list(self._items.lines(job, 0)))
            # So long an answer to one picture is a file of its own.
            if any(len(line) > MAX_INLINE_BYTES for line in lines):
                return None
            items = [orjson.loads(line) for line in lines]
        else:
            return None
        return items if len(items) == count else None


def _joined(wanted: Sequence[Wanted]) -> Wanted:
    first = wanted[0]
    inputs = [each.request.inputs[0] for each in wanted]
    return replace(
        first,
        request=first.request.model_copy(update={"inputs": inputs}),
        pointers=[pointer for each in wanted for pointer in each.pointers],
    )


def _maybe_one_s_fault(job: Job) -> bool:
    """One picture may end them all, and the time that a run may take is meant for one."""
    too_long = job.error is not None and job.error.code == "execution-timeout"
    return job.state is JobState.FAILED or (job.state is JobState.EXPIRED and too_long)


def _maybe_alone(error: FleetError) -> bool:
    """Whether it need not happen to each of the requests by itself."""
    return isinstance(error, ModelError | InputError) or error.code == "worker-lost"


def _own(job: Job, item: dict[str, Any], count: int) -> Job:
    """The job as it would be if it had this one picture, with its share of the time."""
    infer_s = job.timings.get(Stage.INFER.value)
    own: dict[str, Any] = {"artifacts": []}
    if infer_s is not None:
        own["timings"] = {**job.timings, Stage.INFER.value: infer_s / count}
    if (told := item.get("error")) is None:
        facts = {name: fact for name, fact in (job.result or {}).items() if name not in _COUNTS}
        return job.model_copy(update={**own, "result": {**item["result"], **facts}})
    error = JobError(
        code=told["code"],
        message=told["detail"],
        input_at_fault=told["code"] not in _MODEL_CODES,
        facts={name: fact for name, fact in told.items() if name not in ("code", "detail")},
    )
    return job.model_copy(update={**own, "state": JobState.FAILED, "result": None, "error": error})
