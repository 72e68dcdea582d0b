"""Where a job goes: every combination of policy and living pools."""

import pytest

from fleet.contracts import DevicePolicy, Lane, Pool
from fleet.routing import route
from tests.support.front_door import card

NONE: frozenset[Pool] = frozenset()
CPU, GPU, BOTH = frozenset({Pool.CPU}), frozenset({Pool.GPU}), frozenset(Pool)


@pytest.mark.parametrize(
    ("policy", "live", "pool"),
    [
        (DevicePolicy.GPU_ONLY, NONE, Pool.GPU),
        (DevicePolicy.GPU_ONLY, CPU, Pool.GPU),
        (DevicePolicy.GPU_ONLY, BOTH, Pool.GPU),
        (DevicePolicy.CPU_ONLY, NONE, Pool.CPU),
        (DevicePolicy.CPU_ONLY, GPU, Pool.CPU),
        (DevicePolicy.CPU_ONLY, BOTH, Pool.CPU),
        (DevicePolicy.PREFER_GPU, NONE, Pool.CPU),
        (DevicePolicy.PREFER_GPU, CPU, Pool.CPU),
        (DevicePolicy.PREFER_GPU, GPU, Pool.GPU),
        (DevicePolicy.PREFER_GPU, BOTH, Pool.GPU),
        (DevicePolicy.ANY, CPU, Pool.CPU),
        (DevicePolicy.ANY, BOTH, Pool.GPU),
    ],
)
def test_the_policy_decides_and_then_who_lives(policy: DevicePolicy, live: frozenset[Pool], pool: Pool) -> None:
    way = route(card(device=policy), None, live)
    assert way.pool is pool
    assert way.why


def test_the_lane_is_the_cards_unless_the_request_names_one() -> None:
    interactive = card(lane=Lane.INTERACTIVE)
    assert route(interactive, None, CPU).lane is Lane.INTERACTIVE
    assert route(interactive, Lane.BULK, CPU).lane is Lane.BULK
