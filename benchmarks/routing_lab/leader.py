"""The leading front door: once a second it looks, decides who helps, ages and moves; four times a second it feeds.

What it decides with are the functions that the real one decides with: `fleet/routing.py`, `shares.py`, `ageing.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from api.feeder import SOON_S, TICK_S
from fleet.ageing import Budgets, guests
from fleet.contracts import DevicePolicy, Lane, Pool, Priority
from fleet.queues import QueueKind, QueueName
from fleet.routing import Fleet, Help, Load, Member, expected_wait_s, helpers
from fleet.settings import Settings
from fleet.shares import Turns, Windows, interleaved, window_of
from routing_lab.machines import Queue
from routing_lab.work import Job

if TYPE_CHECKING:
    from routing_lab.world import Process, World

LOOK_S = 1.0
#: A job that has run longer than expected is taken to need this part of that time still.
OVERDUE = 0.1
#: What may run anywhere moves to a GPU that ends it in this part of the time.
SOONER = 0.5
#: As a fleet has them that sets nothing.
BUDGETS = {
    lane: Budgets.of(Settings.model_fields[f"ageing_{lane.value}_s"].get_default(call_default_factory=True))
    for lane in Lane
}


class Leader:
    def __init__(self, world: World) -> None:
        self._world = world
        self._models = {model.name: model for model in world.scenario.trace.models}
        self._weights: Mapping[str, float] = world.scenario.weights
        self._windows = Windows()
        self._turns = Turns()
        #: Queues in which tenants wait for their turn.
        self._holding: dict[str, Queue] = {}
        #: queue -> messages that it had after the last round of feeding.
        self._left: dict[str, int] = {}
        self._fed_at = 0.0
        self._help: dict[str, Help] = {}
        self._seen: tuple[float, Fleet] | None = None

    def start(self) -> None:
        self._world.clock.process(self._rounds())

    def _rounds(self) -> Process:
        clock = self._world.clock
        wait_s, looked_at = TICK_S, 0.0
        while True:
            # The look comes between two rounds of feeding, not at the moments at which jobs come.
            yield clock.timeout(wait_s)
            wait_s = self._feed()
            if clock.now - looked_at >= LOOK_S:
                looked_at = clock.now
                self._seen = None
                self._age()
                if self._world.policy.helps:
                    self._move()
                    self._send_helpers()

    # Shares.

    def has_room(self, queue: Queue, tenant: str) -> bool:
        window = window_of(self._windows.of(queue.name), self._weights.get(tenant, 1.0))
        return tenant not in queue.held and queue.published[tenant] < window

    def hold(self, queue: Queue, job: Job) -> None:
        queue.held.setdefault(job.tenant, deque()).append(job)
        self._holding[queue.name] = queue

    def _feed(self) -> float:
        """One round, as `api/feeder.py` has it; how many seconds the next one may wait."""
        self._holding = {name: queue for name, queue in self._holding.items() if queue.held}
        emptied = self._adapt()
        self._turns.keep(self._holding)
        self._left = {}
        for name, queue in sorted(self._holding.items()):
            # Workers that wait take at once: what they take counts.
            queue.taken = 0
            self._fill(queue)
            self._left[name] = len(queue.messages) + queue.taken
        return SOON_S if emptied else TICK_S

    def _adapt(self) -> bool:
        now = self._world.clock.now
        ticks = max(now - self._fed_at, SOON_S) / TICK_S
        self._fed_at = now
        emptied = False
        for name in self._windows.grown.keys() - self._holding.keys():
            self._windows.drained(name, 0, emptied=False)
        for name in self._holding:
            queue, count = self._world.queues[name], self._left.get(name, 0)
            there = {tenant for tenant, jobs in queue.published.items() if jobs}
            taken = min(count, queue.taken)
            empty = bool(taken) and not there
            emptied = emptied or empty
            tenants = {*queue.held, *there}
            parts = sum(self._weights.get(tenant, 1.0) for tenant in tenants)
            self._windows.drained(name, taken / ticks / (parts or 1.0), emptied=empty)
        return emptied

    def _fill(self, queue: Queue) -> None:
        windows = (window_of(self._windows.of(queue.name), self._weights.get(tenant, 1.0)) for tenant in queue.held)
        free = sum(windows) - sum(queue.published[tenant] for tenant in queue.held)
        while queue.held and free > 0:
            turns = self._turns.give(queue.name, list(queue.held), free, self._weights)
            jobs = [(tenant, job) for tenant, count in turns.items() for job in self._next(queue, tenant, count)]
            free -= len(jobs)
            for job in interleaved(sorted(jobs, key=lambda turn: turn[1].number), self._weights):
                self._world.publish(queue, job)

    @staticmethod
    def _next(queue: Queue, tenant: str, count: int) -> list[Job]:
        """Up to so many of those that the tenant has waiting in the record, taken from there."""
        jobs = queue.held[tenant]
        found = [jobs.popleft() for _ in range(min(count, len(jobs)))]
        if not jobs:
            del queue.held[tenant]
        return found

    # Routing.

    def fleet(self) -> Fleet:
        """What was seen at the last look. It is only put together when somebody asks."""
        if self._seen is None:
            members = [self._member(number) for number in range(len(self._world.workers))]
            loads = {name: self._load(queue) for name, queue in self._world.queues.items() if queue.jobs}
            self._seen = self._world.clock.now, Fleet(tuple(one for one in members if one is not None), loads)
        return self._seen[1]

    def _member(self, number: int) -> Member | None:
        worker, now, mean_s = self._world.workers[number], self._world.clock.now, self._world.learning.mean_s
        if not worker.alive and worker.seen_until < now:
            return None
        takes = ((mean_s(run.job.model, run.job.bucket, worker.pool), now - run.began) for run in worker.runs)
        return worker.member(sum(max(mean - elapsed, OVERDUE * mean) for mean, elapsed in takes))

    def _load(self, queue: Queue) -> Load:
        mean_s = self._world.learning.mean_s
        kinds = [(self._models[name], bucket, count) for (name, bucket), count in queue.counts.items()]
        gpu_s, cpu_s = (
            sum(count * mean_s(model, bucket, pool) for model, bucket, count in kinds) / queue.jobs
            for pool in (Pool.GPU, Pool.CPU)
        )
        return Load(queue.jobs, gpu_s, cpu_s, self._world.clock.now - min(job.at for job in queue.heads()))

    def _send_helpers(self) -> None:
        world = self._world
        gone = any(not worker.alive for worker in world.workers)
        waits = any(queue.jobs for queue in world.queues.values() if queue.kind is QueueKind.GPU)
        if not waits and not self._help and not gone:
            return  # Nobody is sent where nothing waits and somebody serves.
        self._help = helpers(self.fleet(), self._help, world.clock.now)
        wanted: dict[str, set[str]] = {}
        for queue, help_now in self._help.items():
            for name in help_now.workers:
                wanted.setdefault(name, set()).add(queue)
        for worker in world.workers:
            where = frozenset(wanted.get(worker.name, ()))
            if where != worker.sent_to:
                world.send(worker, where)

    def _move(self) -> None:
        """Jobs that wait for CPUs since no GPU lived: back, now that one does. And what may run anywhere, if GPUs end
        it much sooner: so many that both would end at the same time.
        """
        for queue in self._world.queues.values():
            if queue.kind is not QueueKind.CPU or not queue.jobs:
                continue
            devices = {self._models[name].device for name, _ in queue.counts}
            if devices <= {DevicePolicy.CPU_ONLY} or not self.fleet().serving(Pool.GPU, queue.lane):
                continue
            self._to_gpu(queue, DevicePolicy.PREFER_GPU, queue.jobs)
            if DevicePolicy.ANY in devices and queue.name in self.fleet().loads:
                self._to_gpu(queue, DevicePolicy.ANY, self._sooner_elsewhere(queue))

    def _sooner_elsewhere(self, queue: Queue) -> int:
        fleet, load = self.fleet(), self.fleet().loads[queue.name]
        cpu_s, gpu_s = (
            expected_wait_s(fleet, pool, queue.lane, queue.priority) + load.seconds(pool)
            for pool in (Pool.CPU, Pool.GPU)
        )
        if gpu_s >= SOONER * cpu_s:
            return 0
        return int((cpu_s - gpu_s) / 2 * fleet.slots(Pool.CPU, queue.lane) / load.cpu_s)

    def _to_gpu(self, queue: Queue, device: DevicePolicy, limit: int) -> None:
        names = frozenset(name for name, _ in queue.counts if self._models[name].device is device)
        for job in self._taken_back(queue, names, limit) if names and limit else ():
            self._world.enter(job, Pool.GPU)

    def _taken_back(self, queue: Queue, names: frozenset[str], limit: int) -> list[Job]:
        """Removes the waiting jobs of these models, the oldest first."""
        waiting = [*queue.messages, *(job for jobs in queue.held.values() for job in jobs)]
        found = sorted((job for job in waiting if job.model.name in names), key=lambda job: job.number)[:limit]
        gone = {job.number for job in found}
        for job in queue.messages:
            queue.published[job.tenant] -= job.number in gone and job.asked == queue.priority
        queue.messages = deque(job for job in queue.messages if job.number not in gone)
        kept = {tenant: deque(job for job in jobs if job.number not in gone) for tenant, jobs in queue.held.items()}
        queue.held = {tenant: jobs for tenant, jobs in kept.items() if jobs}
        for job in found:
            queue.forget(job)
        return found

    # Ageing.

    def _age(self) -> None:
        """The classes from the top, so that what goes up into one is not looked at there in the same round."""
        for queue in self._world.queues.values():
            if queue.jobs and queue.priority is not Priority.URGENT:
                self._age_out_of(queue)

    def _age_out_of(self, queue: Queue) -> None:
        above = QueueName(queue.kind, queue.lane, Priority(queue.priority - 1))
        budgets = BUDGETS[queue.lane].before_leaving(queue.priority)
        now = self._world.clock.now
        free = guests(self._world.scenario.slots(queue.kind.pool, queue.lane)) - self._world.queues[str(above)].aged
        while free > 0:
            ripe = [job for job in queue.heads() if now - job.at > budgets[job.asked]]
            if not ripe:
                return
            job = min(ripe, key=lambda one: one.number)
            self._remove(queue, job)
            job.priority = above.priority
            job.queue = str(above)
            upper = self._world.queues[job.queue]
            upper.count(job)
            self._world.publish(upper, job)
            free -= 1

    def _remove(self, queue: Queue, job: Job) -> None:
        if queue.messages and queue.messages[0] is job:
            queue.messages.popleft()
            queue.published[job.tenant] -= job.asked == queue.priority
        else:
            jobs = queue.held[job.tenant]
            jobs.popleft()
            if not jobs:
                del queue.held[job.tenant]
        queue.forget(job)
