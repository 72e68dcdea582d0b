"""Routing: a pure function from (card, request, state of the fleet) to a pool and the reason in words."""

from collections.abc import Collection
from dataclasses import dataclass

from fleet.contracts import Card, DevicePolicy, Lane, Pool


@dataclass(frozen=True)
class Route:
    pool: Pool
    lane: Lane
    why: str


def route(card: Card, wanted_lane: Lane | None, live_pools: Collection[Pool]) -> Route:
    """Where a job goes: `live_pools` are those with at least one live, not draining worker."""
    lane = wanted_lane or card.lane
    if card.device is DevicePolicy.GPU_ONLY:
        return Route(Pool.GPU, lane, "the model runs on a GPU only")
    if card.device is DevicePolicy.CPU_ONLY:
        return Route(Pool.CPU, lane, "the model runs on a CPU only")
    if Pool.GPU in live_pools:
        return Route(Pool.GPU, lane, "a GPU worker is alive")
    return Route(Pool.CPU, lane, "no GPU worker is alive")
