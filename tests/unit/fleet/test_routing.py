"""Where a job goes and who helps: every combination of policy and living pools, and what holds for any fleet."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.contracts import DevicePolicy, Lane, Pool, Priority
from fleet.queues import QueueKind, QueueName
from fleet.routing import HOLD_S, Fleet, Help, Load, Member, capable, expected_wait_s, helpers, route, words

BULK = Lane.BULK
GPU = Member("g", Pool.GPU, (BULK,), 1, models=frozenset({"organs/1"}), kind="gpu")
CPU = Member("c", Pool.CPU, (BULK,), 1, models=frozenset({"organs/1", "tables/1"}))
CPUS = tuple(Member(f"c{number}", Pool.CPU, (BULK,), 1) for number in range(4))
ANY, PREFER = DevicePolicy.ANY, DevicePolicy.PREFER_GPU


def queue(kind: QueueKind, priority: Priority = Priority.NORMAL) -> str:
    return str(QueueName(kind, BULK, priority))


LOW, NORMAL = queue(QueueKind.GPU, Priority.LOW), queue(QueueKind.GPU)


@pytest.mark.parametrize(
    ("policy", "live", "pool"),
    [
        (DevicePolicy.GPU_ONLY, (), Pool.GPU),
        (DevicePolicy.GPU_ONLY, (CPU,), Pool.GPU),
        (DevicePolicy.GPU_ONLY, (CPU, GPU), Pool.GPU),
        (DevicePolicy.CPU_ONLY, (), Pool.CPU),
        (DevicePolicy.CPU_ONLY, (GPU,), Pool.CPU),
        (DevicePolicy.CPU_ONLY, (CPU, GPU), Pool.CPU),
        (PREFER, (), Pool.CPU),
        (PREFER, (CPU,), Pool.CPU),
        (PREFER, (GPU,), Pool.GPU),
        (PREFER, (CPU, GPU), Pool.GPU),
        (ANY, (CPU,), Pool.CPU),
        (ANY, (GPU,), Pool.GPU),
        (ANY, (CPU, GPU), Pool.GPU),
    ],
)
def test_the_policy_decides_and_then_who_lives(policy: DevicePolicy, live: tuple[Member, ...], pool: Pool) -> None:
    way = route(policy, BULK, Priority.NORMAL, Fleet(live))
    assert way.pool is pool
    assert way.lane is BULK
    assert way.why


@pytest.mark.parametrize(
    ("model", "policy", "pool"),
    [
        ("tables/1", PREFER, Pool.CPU),
        ("tables/1", ANY, Pool.CPU),
        ("bones/1", ANY, Pool.GPU),
        ("organs/1", PREFER, Pool.GPU),
        ("nowhere/1", PREFER, Pool.GPU),
        ("tables/1", DevicePolicy.GPU_ONLY, Pool.GPU),
    ],
)
def test_who_does_not_hold_the_model_is_as_good_as_none(model: str, policy: DevicePolicy, pool: Pool) -> None:
    gpu = Member("g", Pool.GPU, (BULK,), 1, models=frozenset({"organs/1", "bones/1"}))
    fleet = Fleet((CPU, gpu), {NORMAL: Load(100, 1.0, 8.0)})
    assert route(policy, BULK, Priority.NORMAL, fleet, model=model).pool is pool


def test_a_gpu_of_another_lane_is_none() -> None:
    assert route(PREFER, Lane.INTERACTIVE, Priority.NORMAL, Fleet((CPU, GPU))).pool is Pool.CPU


@pytest.mark.parametrize(("waiting", "pool"), [(0, Pool.GPU), (2, Pool.GPU), (20, Pool.CPU)])
def test_what_runs_anywhere_goes_where_it_ends_first(waiting: int, pool: Pool) -> None:
    fleet = Fleet((CPU, GPU), {NORMAL: Load(waiting, 1.0, 8.0)})
    way = route(ANY, BULK, Priority.NORMAL, fleet, {Pool.GPU: 1.0, Pool.CPU: 8.0})
    assert way.pool is pool
    assert way.why.startswith("done in ")


def test_work_of_lower_priority_is_not_in_the_way() -> None:
    fleet = Fleet((GPU,), {LOW: Load(1_000, 1.0, 8.0)})
    assert expected_wait_s(fleet, Pool.GPU, BULK, Priority.NORMAL) == 0.0
    assert expected_wait_s(fleet, Pool.GPU, BULK, Priority.LOW) == 1_000.0
    assert math.isinf(expected_wait_s(fleet, Pool.CPU, BULK, Priority.URGENT))


def test_jobs_for_gpus_alone_are_in_the_way_of_the_others() -> None:
    fleet = Fleet((GPU,), {queue(QueueKind.GPU_ONLY): Load(10, 2.0, 0.0)})
    assert expected_wait_s(fleet, Pool.GPU, BULK, Priority.NORMAL) == 20.0


def test_a_busy_worker_is_waited_for() -> None:
    busy = Member("g", Pool.GPU, (BULK,), 2, busy_s=10.0, running=2)
    assert expected_wait_s(Fleet((busy,)), Pool.GPU, BULK, Priority.NORMAL) == 5.0
    one_free = Member("g", Pool.GPU, (BULK,), 2, busy_s=10.0, running=1)
    assert expected_wait_s(Fleet((one_free,)), Pool.GPU, BULK, Priority.NORMAL) == 0.0


def test_only_who_holds_the_model_and_may_run_it_is_capable() -> None:
    fleet = Fleet((CPU, GPU))
    assert capable(fleet, DevicePolicy.GPU_ONLY, BULK, "organs/1")
    assert not capable(fleet, DevicePolicy.GPU_ONLY, BULK, "tables/1")
    assert capable(fleet, ANY, BULK, "tables/1")
    assert not capable(Fleet((CPU,)), DevicePolicy.GPU_ONLY, BULK, "organs/1")


def test_nobody_helps_while_a_gpu_is_sooner() -> None:
    assert helpers(Fleet((GPU, *CPUS), {NORMAL: Load(6, 1.0, 8.0)}), {}, 0.0) == {}


def test_so_many_help_as_jobs_are_better_off() -> None:
    # The wait is 9 s, a CPU takes 7 s more: two jobs.
    found = helpers(Fleet((GPU, *CPUS), {NORMAL: Load(9, 1.0, 8.0)}), {}, 0.0)
    assert len(found[NORMAL].workers) == 2
    assert found[NORMAL].why == "gpu wait 9.0 s > cpu 8.0 s"


def test_help_begins_at_the_low_end() -> None:
    loads = {NORMAL: Load(5, 1.0, 8.0), LOW: Load(5, 1.0, 8.0)}
    assert list(helpers(Fleet((GPU, *CPUS), loads), {}, 0.0)) == [LOW]


def test_all_help_everywhere_while_no_gpu_lives() -> None:
    found = helpers(Fleet(CPUS), {}, 0.0)
    assert set(found) == {queue(QueueKind.GPU, priority) for priority in Priority}
    assert all(len(help_now.workers) == len(CPUS) for help_now in found.values())
    assert all("no GPU worker" in help_now.why for help_now in found.values())


def test_a_job_that_waits_too_long_is_helped_whatever_was_expected() -> None:
    # The GPU is said to be idle, and the job has waited for a minute.
    hanging = {NORMAL: Load(1, 1.0, 8.0, oldest_s=60.0)}
    assert len(helpers(Fleet((GPU, *CPUS), hanging), {}, 0.0)[NORMAL].workers) == 1


def test_who_does_not_want_to_help_is_not_asked() -> None:
    unwilling = Member("c", Pool.CPU, (BULK,), 1, helps=False)
    assert helpers(Fleet((unwilling,)), {}, 0.0) == {}
    assert helpers(Fleet((GPU, unwilling), {NORMAL: Load(900, 1.0, 8.0)}), {}, 0.0) == {}


def test_who_does_not_hold_all_that_waits_does_not_help() -> None:
    other = Member("d", Pool.CPU, (BULK,), 1, models=frozenset({"tables/1"}))
    loads = {NORMAL: Load(900, 1.0, 8.0, models=frozenset({"organs/1"}))}
    before = {NORMAL: Help(("c", "d"), "why", 0.0)}
    assert helpers(Fleet((GPU, CPU, other), loads), before, 0.5)[NORMAL].workers == ("c",), "at once"
    assert helpers(Fleet((GPU, other), loads), before, 0.5) == {}
    # Without a GPU somebody has to take what can be taken.
    assert helpers(Fleet((CPU, other), loads), before, 0.5)[NORMAL].workers == ("c",)
    assert helpers(Fleet((other,), loads), before, 0.5)[NORMAL].workers == ("d",)


def test_help_is_held_for_a_moment_and_then_ends() -> None:
    before = {NORMAL: Help(("c0",), "gpu wait 9.0 s > cpu 8.0 s", 100.0)}
    idle = Fleet((GPU, *CPUS))
    held = helpers(idle, before, 100.0 + HOLD_S / 2)
    assert held[NORMAL].workers == ("c0",)
    assert held[NORMAL].changed_at == 100.0
    assert helpers(idle, held, 100.0 + HOLD_S) == {}


def test_between_the_thresholds_nothing_changes() -> None:
    # 6.5 s of wait: not enough to join for 7 s more, too much to leave.
    fleet = Fleet((GPU, *CPUS), {NORMAL: Load(13, 0.5, 7.5)})
    assert helpers(fleet, {}, 0.0) == {}
    before = {NORMAL: Help(("c2",), "why", 0.0)}
    assert helpers(fleet, before, 100.0)[NORMAL].workers == ("c2",)


def test_who_helps_stays_and_the_least_busy_come_next() -> None:
    busy = (
        Member("c0", Pool.CPU, (BULK,), 1, busy_s=0.5, running=1),
        Member("c1", Pool.CPU, (BULK,), 1),
        Member("c2", Pool.CPU, (BULK,), 1, busy_s=0.5, running=1),
    )
    before = {NORMAL: Help(("c2",), "why", 0.0)}
    found = helpers(Fleet((GPU, *busy), {NORMAL: Load(9, 1.0, 8.0)}), before, 100.0)
    assert found[NORMAL].workers == ("c1", "c2")


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    pools = draw(st.lists(st.sampled_from(Pool), max_size=6))
    members = tuple(
        Member(
            f"w{number}", pool, (BULK,), draw(st.integers(1, 4)),
            busy_s=draw(st.floats(0, 1_000)), running=draw(st.integers(0, 4)), helps=draw(st.booleans()),
        )
        for number, pool in enumerate(pools)
    )  # fmt: skip
    seconds = st.floats(1e-3, 1e3)
    names = [queue(kind, priority) for kind in QueueKind for priority in Priority]
    loads = draw(
        st.dictionaries(
            st.sampled_from(names), st.builds(Load, st.integers(1, 10_000), seconds, seconds, st.floats(0, 1e4))
        )
    )
    return Fleet(members, loads)


@given(fleets(), st.sampled_from(DevicePolicy), st.sampled_from(Priority))
def test_no_job_is_sent_where_it_may_not_run(fleet: Fleet, policy: DevicePolicy, priority: Priority) -> None:
    pool = route(policy, BULK, priority, fleet).pool
    assert policy is not DevicePolicy.GPU_ONLY or pool is Pool.GPU
    assert policy is not DevicePolicy.CPU_ONLY or pool is Pool.CPU
    if policy in (ANY, PREFER) and fleet.members:
        assert fleet.serving(pool, BULK)


@given(fleets())
def test_the_less_urgent_never_waits_shorter(fleet: Fleet) -> None:
    for pool in Pool:
        waits = [expected_wait_s(fleet, pool, BULK, priority) for priority in Priority]
        assert waits == sorted(waits)


@given(fleets(), st.floats(0, 10))
def test_helpers_are_willing_cpus_and_a_second_look_changes_nothing(fleet: Fleet, now: float) -> None:
    found = helpers(fleet, {}, now)
    willing = {member.name for member in fleet.members if member.pool is Pool.CPU and member.helps}
    for name, help_now in found.items():
        assert QueueName.parse(name).kind is QueueKind.GPU
        assert help_now.workers
        assert willing >= set(help_now.workers)
    assert helpers(fleet, found, now + 1.0) == found


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0 ms"), (0.04, "40 ms"), (0.9996, "1.0 s"), (4.11, "4.1 s"), (41.2, "41 s"), (599.4, "599 s"),
     (720.0, "12 min"), (math.inf, "no end")],
)  # fmt: skip
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert words(seconds) == said
