"""The simulated fleet: jobs come, wait, run and end, workers take, die and come back.

The clock and the leader's rounds are simpy's. Arrivals are one process; runs are single timeouts with a callback, and
idle workers are found by group, so that nothing is ever done for each of the workers and a million jobs take a minute.
"""

from collections import defaultdict
from collections.abc import Generator
from random import Random
from typing import Any, cast

import simpy

from fleet.catalogue import ALIVE_S
from fleet.contracts import Lane, Pool
from fleet.queues import ALL_QUEUES, QueueKind, QueueName, in_order, queues
from fleet.routing import Fleet
from routing_lab.leader import Leader
from routing_lab.learning import Learning
from routing_lab.machines import Group, Queue, Run, Worker, any_idle
from routing_lab.measures import Measures
from routing_lab.policies import Policy
from routing_lab.scenarios import Death, Scenario
from routing_lab.work import Job

Process = Generator[simpy.Event, Any, None]
#: From a machine's death until its jobs are queued again: a lease that was renewed up to ten seconds before, and the
#: reconciler's round. Mean of both.
LEASE_S = 26.0
#: A CPU worker reads the row every 0.7 s, and follows it every third of that; a wait at the broker lasts one second.
ROW_READ_S, BROKER_WAIT_S = 0.93, 1.0
HEARTBEAT_S = ALIVE_S / 3
#: What a job costs besides its model, on either device: the claim, the end, the broker.
COST_S = 0.004


class World:
    """Runs once."""

    def __init__(self, scenario: Scenario, policy: Policy, seed: int = 0, cost_s: float = COST_S) -> None:
        self.scenario, self.policy, self.cost_s = scenario, policy, cost_s
        self.clock = simpy.Environment()
        self.chance = Random(seed)
        self.queues = {name: Queue(name) for name in ALL_QUEUES}
        self._groups: dict[tuple[str, ...], Group] = {}
        self.workers = [
            Worker(f"{part.pool.value}-{part.lane.value}-{number}", part.pool, (part.lane,), part.slots)
            for part in scenario.machines
            for number in range(part.count)
        ]
        for worker in self.workers:
            self._into_group(worker)
        self.learning = Learning()
        self.leader = Leader(self)
        self.measures = Measures(len(scenario.trace))
        self._running: dict[tuple[Pool, Lane], int] = defaultdict(int)
        self._slots = {(pool, lane): scenario.slots(pool, lane) for pool in Pool for lane in Lane}
        self._left = len(scenario.trace)
        self._done = self.clock.event()

    def run(self) -> Measures:
        for death in self.scenario.deaths:
            self.clock.process(self._dies(death))
        self.clock.process(self._arrivals())
        self.clock.process(self._heartbeats())
        self.leader.start()
        self.clock.run(until=self._done)
        self.measures.makespan_s = self.clock.now
        return self.measures

    # What policies ask.

    def fleet(self) -> Fleet:
        return self.leader.fleet()

    def takes_s(self, job: Job) -> dict[Pool, float]:
        return {pool: self.learning.mean_s(job.model, job.bucket, pool) for pool in Pool}

    def depth_per_slot(self, pool: Pool, lane: Lane) -> float:
        slots = self._slots[pool, lane]
        waiting = sum(q.jobs for q in self.queues.values() if q.kind.pool is pool and q.lane is lane)
        return (waiting + self._running[pool, lane]) / slots if slots else float("inf")

    # Jobs.

    def _arrivals(self) -> Process:
        clock = self.clock
        for job in self.scenario.trace.jobs():
            if job.at > clock.now:
                yield clock.timeout(job.at - clock.now)
            self.enter(job, self.policy.pool(job, self))

    def enter(self, job: Job, pool: Pool) -> None:
        """A job comes to wait in a queue: in the broker if its tenant has room there, else in the record."""
        kind = QueueKind.of(pool, job.model.device)
        job.queue = str(QueueName(kind, job.model.lane, job.priority))
        queue = self.queues[job.queue]
        queue.count(job)
        if self.leader.has_room(queue, job.tenant):
            self.publish(queue, job)
        else:
            self.leader.hold(queue, job)

    def publish(self, queue: Queue, job: Job, *, first: bool = False) -> None:
        """The message is in the broker; whoever waits for it has it at once."""
        queue.publish(job, first=first)
        worker = any_idle(queue.groups, self.chance)
        if worker is not None:
            self._take(worker, queue)

    def _take(self, worker: Worker, queue: Queue) -> None:
        job = queue.take()
        helped = worker.pool is not queue.kind.pool
        run = Run(job, worker, self.clock.now, helped)
        worker.runs.add(run)
        self._running[worker.pool, worker.lanes[0]] += 1
        if len(worker.runs) >= worker.slots and worker.place >= 0:
            worker.group.remove(worker)
        if job.model.flexible and worker.pool is Pool.CPU:
            self.measures.on_cpu += 1
            self.measures.needless += self._gpu_idle(worker.lanes[0])
        takes = (job.gpu_s if worker.pool is Pool.GPU else job.cpu_s) + self.cost_s
        self.clock.timeout(takes, run).callbacks.append(self._ended)

    def _gpu_idle(self, lane: Lane) -> bool:
        return self._running[Pool.GPU, lane] < self._slots[Pool.GPU, lane]

    def _ended(self, event: simpy.Event) -> None:
        run = cast(Run, event.value)
        worker, job = run.worker, run.job
        if run not in worker.runs:
            return  # It died with its worker.
        worker.runs.remove(run)
        self._running[worker.pool, worker.lanes[0]] -= 1
        now = self.clock.now
        self.learning.saw(job, worker.pool, now - run.began)
        self.measures.ended(job, run.began, now)
        self._left -= 1
        if not self._left:
            self._done.succeed()
        self._look_for_work(worker)

    def _look_for_work(self, worker: Worker) -> None:
        while len(worker.runs) < worker.slots:
            queue = next((queue for queue in worker.group.queues if queue.messages), None)
            if queue is None:
                if worker.place < 0:
                    worker.group.add(worker)
                return
            self._take(worker, queue)

    # Workers.

    def _into_group(self, worker: Worker) -> None:
        own = queues([worker.pool], worker.lanes)
        names = tuple(in_order([*own, *worker.helping], worker.pool))
        group = self._groups.get(names)
        if group is None:
            group = self._groups[names] = Group(tuple(self.queues[name] for name in names))
            for queue in group.queues:
                queue.groups.append(group)
        worker.group = group
        if len(worker.runs) < worker.slots:
            group.add(worker)

    def send(self, worker: Worker, wanted: frozenset[str]) -> None:
        """The leader wrote it into the row. The worker reads it within a second; one that waits at the broker for a
        message names its new queues there when that wait ends, within another.
        """
        worker.sent_to = wanted
        delay = self.chance.uniform(0.0, ROW_READ_S) + (
            self.chance.uniform(0.0, BROKER_WAIT_S) if worker.place >= 0 else 0.0
        )
        self.clock.timeout(delay, worker).callbacks.append(self._adopts)

    def _adopts(self, event: simpy.Event) -> None:
        worker = cast(Worker, event.value)
        if worker.helping == worker.sent_to or not worker.alive:
            return
        self.measures.switches += len(worker.helping ^ worker.sent_to)
        worker.helping = worker.sent_to
        if worker.place >= 0:
            worker.group.remove(worker)
        self._into_group(worker)
        if worker.place >= 0 and any(queue.messages for queue in worker.group.queues):
            worker.group.remove(worker)
            self._look_for_work(worker)

    def _dies(self, death: Death) -> Process:
        yield self.clock.timeout(death.at)
        here = [worker for worker in self.workers if worker.pool is Pool.GPU and death.lane in worker.lanes]
        lost: list[Job] = []
        for worker in here[: death.count]:
            worker.alive, worker.seen_until = False, self.clock.now + ALIVE_S
            if worker.place >= 0:
                worker.group.remove(worker)
            lost += [run.job for run in worker.runs]
            self._running[worker.pool, worker.lanes[0]] -= len(worker.runs)
            worker.runs.clear()
        self._slots[Pool.GPU, death.lane] -= sum(worker.slots for worker in here[: death.count])
        yield self.clock.timeout(LEASE_S)
        for job in lost:
            self.measures.lost_runs += 1
            self._again(job)
        yield self.clock.timeout(max(0.0, death.back_at - self.clock.now))
        self._slots[Pool.GPU, death.lane] += sum(worker.slots for worker in here[: death.count])
        for worker in here[: death.count]:
            worker.alive = True
            self._look_for_work(worker)

    def _again(self, job: Job) -> None:
        """Its worker is gone: it runs again, before all that wait."""
        queue = self.queues[job.queue]
        queue.count(job)
        self.publish(queue, job, first=True)

    def _heartbeats(self) -> Process:
        while True:
            yield self.clock.timeout(HEARTBEAT_S)
            self.learning.tell()
