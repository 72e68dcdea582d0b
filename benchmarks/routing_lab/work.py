"""What is to be done: models and their service times, and a trace of jobs in the order in which they come.

A trace is arrays, one entry a job, so that a million of them fit; jobs are made one by one while it is replayed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fleet.contracts import DevicePolicy, Lane, Pool, Priority

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """A model and how long one of its jobs holds a slot: the median of a log-normal distribution, in seconds."""

    name: str
    lane: Lane
    device: DevicePolicy
    gpu_s: float
    cpu_s: float
    #: Of the logarithm, within one size. It is the same on either device: what is hard is hard everywhere.
    sigma: float = 0.2
    #: How often each size comes; one bucket more is twice the bytes, and twice the time.
    sizes: tuple[float, ...] = (1.0,)
    #: What the card says, wrong as cards are; empty: nothing, so that the first estimate is that of the lane.
    card_s: dict[Pool, float] = field(default_factory=dict)

    @property
    def flexible(self) -> bool:
        return self.device in (DevicePolicy.PREFER_GPU, DevicePolicy.ANY)


class Job:
    """One job on its way; written by the world."""

    __slots__ = (
        "asked", "at", "bucket", "cpu_s", "gpu_s", "model", "number", "priority", "queue", "tenant",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        at: float,
        model: Model,
        bucket: int,
        tenant: str,
        asked: Priority,
        gpu_s: float,
        cpu_s: float,
    ) -> None:
        self.number = number
        self.at = at
        self.model = model
        self.bucket = bucket
        self.tenant = tenant
        #: What was asked for, and where ageing has brought it.
        self.asked = asked
        self.priority = asked
        self.gpu_s = gpu_s
        self.cpu_s = cpu_s
        self.queue = ""


@dataclass(frozen=True)
class Trace:
    models: tuple[Model, ...]
    tenants: tuple[str, ...]
    #: Seconds, ascending.
    at: Floats
    model: Numbers
    bucket: Numbers
    tenant: Numbers
    priority: Numbers
    #: What the job would take on either device, in seconds.
    gpu_s: Floats
    cpu_s: Floats

    def __len__(self) -> int:
        return len(self.at)

    def jobs(self, chunk: int = 50_000) -> Iterator[Job]:
        priorities = list(Priority)
        for start in range(0, len(self), chunk):
            part = slice(start, start + chunk)
            columns = (self.at, self.model, self.bucket, self.tenant, self.priority, self.gpu_s, self.cpu_s)
            rows = zip(*(column[part].tolist() for column in columns), strict=True)
            for number, (at, model, bucket, tenant, priority, gpu_s, cpu_s) in enumerate(rows, start):
                yield Job(
                    number, at, self.models[model], bucket, self.tenants[tenant], priorities[priority], gpu_s, cpu_s
                )


@dataclass(frozen=True)
class Mix:
    """From what the jobs of a trace are drawn; each part is a list of (what, how often)."""

    models: Sequence[tuple[Model, float]]
    priorities: Sequence[float] = (0.1, 0.2, 0.4, 0.3)
    tenants: Sequence[tuple[str, float]] = (("one", 1.0),)


def drawn(chance: np.random.Generator, at: Floats, mix: Mix) -> Trace:
    """Jobs at these moments."""
    at = np.sort(at)
    count = len(at)
    models = tuple(model for model, _ in mix.models)
    which = chance.choice(len(models), count, p=_parts([often for _, often in mix.models]))
    bucket = np.zeros(count, np.int64)
    for number, model in enumerate(models):
        mine = which == number
        bucket[mine] = 20 + chance.choice(len(model.sizes), mine.sum(), p=_parts(model.sizes))
    sigma = np.array([model.sigma for model in models])[which]
    hardness = np.exp(sigma * chance.standard_normal(count)) * 2.0 ** (bucket - 20)
    return Trace(
        models,
        tuple(tenant for tenant, _ in mix.tenants),
        at,
        which.astype(np.int64),
        bucket,
        chance.choice(len(mix.tenants), count, p=_parts([often for _, often in mix.tenants])),
        chance.choice(len(Priority), count, p=_parts(mix.priorities)),
        np.array([model.gpu_s for model in models])[which] * hardness,
        np.array([model.cpu_s for model in models])[which] * hardness,
    )


def together(*traces: Trace) -> Trace:
    """One trace of several."""
    models = tuple(dict.fromkeys(name for trace in traces for name in (model.name for model in trace.models)))
    known = {model.name: model for trace in traces for model in trace.models}
    tenants = tuple(dict.fromkeys(tenant for trace in traces for tenant in trace.tenants))
    order = np.argsort(np.concatenate([trace.at for trace in traces]), kind="stable")
    model_of = [np.array([models.index(model.name) for model in trace.models])[trace.model] for trace in traces]
    tenant_of = [np.array([tenants.index(tenant) for tenant in trace.tenants])[trace.tenant] for trace in traces]

    def joined(name: str) -> Floats:
        column: Floats = np.concatenate([getattr(trace, name) for trace in traces])[order]
        return column

    def numbered(name: str) -> Numbers:
        column: Numbers = np.concatenate([getattr(trace, name) for trace in traces])[order]
        return column

    return Trace(
        tuple(known[name] for name in models),
        tenants,
        joined("at"),
        np.concatenate(model_of)[order],
        numbered("bucket"),
        np.concatenate(tenant_of)[order],
        numbered("priority"),
        joined("gpu_s"),
        joined("cpu_s"),
    )


def _parts(weights: Sequence[float]) -> Floats:
    return np.asarray(weights, np.float64) / sum(weights)
