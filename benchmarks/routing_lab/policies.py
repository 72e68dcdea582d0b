"""Where a job goes at submit: ours, and the three that it is measured against.

Everything else (priorities, fair shares, ageing, delivery) is the same for all of them.
"""

from typing import Protocol

from fleet.contracts import DevicePolicy, Lane, Pool
from fleet.routing import Fleet, route
from routing_lab.work import Job


class View(Protocol):
    """What a policy may ask."""

    def fleet(self) -> Fleet:
        """As the leader last saw it."""

    def takes_s(self, job: Job) -> dict[Pool, float]: ...

    def depth_per_slot(self, pool: Pool, lane: Lane) -> float:
        """Jobs that wait and run, now, exactly; infinite while no worker of the pool lives."""


class Policy(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def helps(self) -> bool:
        """Whether CPU workers help out, and jobs are moved when GPUs come back."""

    def pool(self, job: Job, view: View) -> Pool: ...


class Ours:
    name, helps = "ours", True

    def pool(self, job: Job, view: View) -> Pool:
        model = job.model
        takes = view.takes_s(job) if model.device is DevicePolicy.ANY else None
        return route(model.device, model.lane, job.asked, view.fleet(), takes).pool


class GpuOnly:
    """Whatever may run on a GPU waits for one."""

    name, helps = "gpu only", False

    def pool(self, job: Job, view: View) -> Pool:
        return Pool.CPU if job.model.device is DevicePolicy.CPU_ONLY else Pool.GPU


class Depth:
    """The pool with fewer jobs a slot at submit, for good."""

    name, helps = "depth at enqueue", False

    def pool(self, job: Job, view: View) -> Pool:
        if not job.model.flexible:
            return GpuOnly().pool(job, view)
        return min((Pool.GPU, Pool.CPU), key=lambda pool: view.depth_per_slot(pool, job.model.lane))


class Split:
    """A fixed part of what may run on both goes to the CPUs."""

    helps = False

    def __init__(self, part: float) -> None:
        self.part = part
        self.name = f"split {part:.0%}"

    def pool(self, job: Job, view: View) -> Pool:
        if not job.model.flexible:
            return GpuOnly().pool(job, view)
        # Spread evenly over the jobs, the same in every run.
        return Pool.CPU if (job.number * 0.6180339887498949) % 1.0 < self.part else Pool.GPU


SPLITS = (0.05, 0.1, 0.2, 0.3, 0.5)
