"""Where it is done: queues in the broker and in the record, and worker processes with slots."""

from collections import defaultdict, deque
from random import Random
from typing import NamedTuple

from fleet.contracts import Lane, Pool
from fleet.queues import QueueName
from fleet.routing import Member
from routing_lab.learning import KIND
from routing_lab.work import Job


class Queue:
    """One queue: its messages in the broker, and the jobs that its tenants still have waiting in the record."""

    def __init__(self, name: str) -> None:
        self.name = name
        parsed = QueueName.parse(name)
        self.kind, self.lane, self.priority = parsed.kind, parsed.lane, parsed.priority
        self.messages: deque[Job] = deque()
        #: tenant -> messages, without those of jobs that came up by ageing.
        self.published: dict[str, int] = defaultdict(int)
        self.held: dict[str, deque[Job]] = {}
        #: Messages taken since the last round of feeding.
        self.taken = 0
        #: (model, bucket) -> jobs that wait, here or in the record.
        self.counts: dict[tuple[str, int], int] = defaultdict(int)
        self.jobs = 0
        #: Jobs that came up by ageing and wait.
        self.aged = 0
        #: Those groups of workers that take from it.
        self.groups: list[Group] = []

    def heads(self) -> list[Job]:
        """The next one in the broker, and of each tenant in the record."""
        first = [self.messages[0]] if self.messages else []
        return first + [jobs[0] for jobs in self.held.values()]

    def publish(self, job: Job, *, first: bool = False) -> None:
        self.published[job.tenant] += job.asked == self.priority
        self.messages.appendleft(job) if first else self.messages.append(job)

    def take(self) -> Job:
        job = self.messages.popleft()
        self.published[job.tenant] -= job.asked == self.priority
        self.taken += 1
        self.forget(job)
        return job

    def count(self, job: Job) -> None:
        self.jobs += 1
        self.counts[job.model.name, job.bucket] += 1
        self.aged += job.asked > self.priority

    def forget(self, job: Job) -> None:
        self.jobs -= 1
        key = (job.model.name, job.bucket)
        self.counts[key] -= 1
        if not self.counts[key]:
            del self.counts[key]
        self.aged -= job.asked > self.priority


class Run(NamedTuple):
    job: Job
    worker: "Worker"
    began: float
    #: Whether the worker took it from a queue that is not its own.
    helped: bool


class Group:
    """Workers that take from the same queues in the same order: idle ones are found without looking at each."""

    def __init__(self, queues: tuple[Queue, ...]) -> None:
        self.queues = queues
        self.idle: list[Worker] = []

    def add(self, worker: "Worker") -> None:
        worker.place = len(self.idle)
        self.idle.append(worker)

    def remove(self, worker: "Worker") -> None:
        last = self.idle.pop()
        if last is not worker:
            self.idle[worker.place] = last
            last.place = worker.place
        worker.place = -1


class Worker:
    """A worker process. It takes a message as soon as it has a free slot, and never gives one back."""

    def __init__(self, name: str, pool: Pool, lanes: tuple[Lane, ...], slots: int) -> None:
        self.name, self.pool, self.lanes, self.slots = name, pool, lanes, slots
        self.runs: set[Run] = set()
        self.group: Group
        #: In the list of the idle of its group; -1: not there.
        self.place = -1
        self.alive = True
        #: Until when its row is believed after its death.
        self.seen_until = 0.0
        self.helping: frozenset[str] = frozenset()
        #: What the row says that it should help.
        self.sent_to: frozenset[str] = frozenset()
        self._rested = Member(name, pool, lanes, slots, kind=KIND[pool])

    def member(self, busy_s: float) -> Member:
        """As routing sees it."""
        if not self.runs:
            return self._rested
        return Member(
            self.name, self.pool, self.lanes, self.slots, busy_s=busy_s, running=len(self.runs), kind=KIND[self.pool]
        )


def any_idle(groups: list[Group], chance: Random) -> Worker | None:
    """A waiting worker, each as likely: Redis serves whoever has waited longest, and all ask anew each second."""
    found = [group for group in groups if group.idle]
    if not found:
        return None
    if len(found) == 1:
        return found[0].idle[chance.randrange(len(found[0].idle))] if len(found[0].idle) > 1 else found[0].idle[0]
    place = chance.randrange(sum(len(group.idle) for group in found))
    for group in found:
        if place < len(group.idle):
            return group.idle[place]
        place -= len(group.idle)
    raise AssertionError("the place lies within the sum")
