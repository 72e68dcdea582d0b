"""How long until a job that a fault had hit ran again, by what the witness wrote down."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from soak.injector import Hit
from soak.plan import ENDS_RUNS
from tests.support.witness import Change


@dataclass(frozen=True)
class Recovery:
    """One attempt that was lost to a fault, and the next claim of its job."""

    job: UUID
    queue: str
    attempt: int
    #: Seconds from the fault to the next claim.
    seconds: float
    #: Of these, seconds from the fault until the job was in the queue again, and seconds in the queue.
    noticed_s: float
    queued_s: float
    #: None: no fault explains why the attempt was given up.
    fault: str | None
    #: What else was broken meanwhile.
    meanwhile: tuple[str, ...]


def recoveries(changes: Sequence[Change], hits: Sequence[Hit], queues: Mapping[UUID, str]) -> list[Recovery]:
    """Of every attempt that began, ended without an ending of its job, and was followed by another.

    The fault is the likeliest that hit its worker while it ran, and of several alike the last.
    """
    by_job: dict[UUID, list[Change]] = defaultdict(list)
    for change in changes:
        by_job[change.job].append(change)
    return [found for job, story in by_job.items() for found in _of_one(story, hits, queues.get(job, ""))]


def _of_one(story: Sequence[Change], hits: Sequence[Hit], queue: str) -> Iterator[Recovery]:
    claim: Change | None = None
    given_up: Change | None = None
    for change in story:
        if change.became == "running" and change.attempt is not None and change.attempt > change.attempt_was:
            if claim is not None:
                # A claim of a running job whose lease has lapsed gives it up and takes it at once.
                yield _recovery(claim, given_up or change, change, hits, queue)
            claim, given_up = change, None
        elif change.was == "running" and change.became == "queued":
            given_up = change
        elif change.ended:
            claim = None


def _recovery(claim: Change, given_up: Change, again: Change, hits: Sequence[Hit], queue: str) -> Recovery:
    began, ended, taken = (moment.at.timestamp() for moment in (claim, given_up, again))
    there = [hit for hit in hits if hit.at <= taken and began <= hit.at + hit.lasts_s]
    suspects = [hit for hit in there if hit.kind in ENDS_RUNS and claim.worker in hit.workers and hit.at <= ended]
    fault = min(suspects, key=lambda hit: (ENDS_RUNS.index(hit.kind), -hit.at), default=None)
    # A fault that was there before the job hit it when it was taken.
    struck = max(fault.at, began) if fault else ended
    return Recovery(
        job=claim.job,
        queue=queue,
        attempt=claim.attempt or 0,
        seconds=taken - struck,
        noticed_s=ended - struck,
        queued_s=taken - ended,
        fault=fault.kind.value if fault else None,
        meanwhile=tuple(hit.kind.value for hit in there if hit is not fault),
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
