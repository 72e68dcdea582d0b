"""What the watchdog takes for a standstill and what not: with a real Redis that goes away and comes back."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from fleet.broker import Broker
from fleet.errors import DependencyError
from fleet.settings import Settings
from tests.support.tcp_proxy import Proxy
from worker.exits import ExitCode
from worker.pulse import Pulse
from worker.watchdog import Limits, Watchdog, Watched

QUEUES = ["cpu.bulk.high", "cpu.bulk.low"]
LIMITS = Limits(stuck_s=60.0, drain_s=55.0)
LONGER_S = 75.0


@dataclass
class Scene:
    """A watchdog, and the worker that it watches as a few numbers."""

    proxy: Proxy
    client: redis.Redis
    broker: Broker
    watchdog: Watchdog = field(init=False)
    ends: list[ExitCode] = field(default_factory=list)
    now: float = 0.0
    busy: int = 0
    silent_s: float = 0.0
    record_is_away: bool = False

    def __post_init__(self) -> None:
        watched = Watched(
            queues=lambda: QUEUES,
            next_messages=self.broker.next_messages,
            busy=lambda: self.busy,
            slots=1,
            leases_silent_s=lambda: self.silent_s,
            ask_record=self.ask_record,
        )
        self.watchdog = Watchdog(watched, LIMITS, Pulse(None), end=self.ends.append, clock=lambda: self.now)

    def look(self, seconds: float, *, turning: bool = True, receiving: bool = False) -> list[ExitCode]:
        """Looks for so many seconds of its clock, as its thread does; how the process would have ended."""
        until = self.now + seconds
        while self.now < until:
            self.now += LIMITS.look_s
            if turning:
                self.watchdog.turned()
            if receiving:
                self.watchdog.received()
            self.watchdog.look()
        return self.ends

    def ask_record(self) -> None:
        if self.record_is_away:
            raise DependencyError("away", code="database-unavailable")


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    url = settings.redis_url.get_secret_value()
    port = int(url.rpartition(":")[2].partition("/")[0])
    proxy = Proxy(port)
    broker = Broker(url.replace(f":{port}", f":{proxy.port}"), timeout_s=0.2)
    with redis.Redis.from_url(url) as client:
        yield Scene(proxy, client, broker)
    broker.close()
    proxy.cut()


def test_idle_worker_is_left_alone(scene: Scene) -> None:
    assert scene.look(2 * LONGER_S) == []


def test_loop_that_does_not_turn_ends_the_process(scene: Scene) -> None:
    assert set(scene.look(2 * LONGER_S, turning=False)) == {ExitCode.HUNG}


def test_while_redis_is_away_a_loop_that_does_not_turn_is_reconnecting_and_afterwards_it_is_not(scene: Scene) -> None:
    scene.proxy.cut()
    assert scene.look(3 * LONGER_S, turning=False) == []
    scene.proxy.mend()
    assert scene.look(LIMITS.look_s, turning=False) == [], "it has its time from when Redis is back"
    assert set(scene.look(2 * LONGER_S, turning=False)) == {ExitCode.HUNG}


def test_loop_that_was_slow_and_turns_again_is_forgiven(scene: Scene) -> None:
    for _ in range(3):
        assert scene.look(LIMITS.stuck_s * 0.8, turning=False) == []
        assert scene.look(LIMITS.look_s) == []


def test_message_that_nobody_takes_while_slots_are_free_ends_the_process(scene: Scene) -> None:
    scene.client.lpush(QUEUES[1], "second", "first")
    assert set(scene.look(LONGER_S)) == {ExitCode.NOT_CONSUMING}


def test_full_worker_may_leave_messages_lying(scene: Scene) -> None:
    scene.client.lpush(QUEUES[0], "waits")
    scene.busy = 1
    assert scene.look(2 * LONGER_S) == []


def test_worker_that_receives_may_leave_less_urgent_messages_lying(scene: Scene) -> None:
    scene.client.lpush(QUEUES[1], "waits for the urgent ones")
    assert scene.look(2 * LONGER_S, receiving=True) == []


def test_queue_that_others_empty_is_no_sign_of_a_deaf_worker(scene: Scene) -> None:
    for number in range(20):
        scene.client.lpush(QUEUES[0], f"message {number}")
    for _ in range(10):
        assert scene.look(LIMITS.look_s) == []
        scene.client.rpop(QUEUES[0])


def test_lease_keeper_that_hangs_ends_the_process(scene: Scene) -> None:
    scene.silent_s = 60.0
    assert set(scene.look(2 * LONGER_S)) == {ExitCode.HUNG}


def test_lease_keeper_that_waits_for_a_frozen_record_does_not(scene: Scene) -> None:
    scene.silent_s, scene.record_is_away = 60.0, True
    assert scene.look(2 * LONGER_S) == []


def test_drain_that_does_not_end_ends_the_process_and_until_then_nothing_else_does(scene: Scene) -> None:
    scene.client.lpush(QUEUES[0], "waits")
    scene.watchdog.drain()
    assert scene.look(LIMITS.drain_s * 0.8, turning=False) == []
    assert set(scene.look(LONGER_S, turning=False)) == {ExitCode.RUN_STUCK}


def test_process_that_was_frozen_has_not_stood_still(scene: Scene) -> None:
    scene.client.lpush(QUEUES[0], "waits")
    assert scene.look(LIMITS.look_s) == []
    scene.now += 2 * LONGER_S
    assert scene.look(2 * LIMITS.look_s, turning=False) == []
    assert scene.look(2 * LIMITS.look_s) == []


def test_pulse_says_who_takes_jobs_then_that_it_drains_and_is_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    pulse = Pulse(path)
    pulse.beat()
    pulse.draining()
    assert not path.exists(), "a worker that never took jobs says nothing"
    pulse.consuming()
    assert path.read_text() == str(os.getpid())
    os.utime(path, (1, 1))
    pulse.beat()
    assert path.stat().st_mtime > 1
    pulse.draining()
    assert path.read_text() == "draining"
    pulse.end()
    assert not path.exists()


def test_pulse_that_cannot_be_written_holds_up_neither_the_start_nor_the_end(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path / "no such folder" / "ready")
    for call in (pulse.consuming, pulse.beat, pulse.draining, pulse.end):
        call()
