"""A GPU that is only played: declared as one, marked everywhere, as fast as it was told to be, and as stoppable."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from pydantic import ValidationError

from fleet.contracts import Pool
from fleet.errors import RunStopped
from fleet.settings import CPU_PROVIDER, Settings
from tests.support.ort_model import RecordedProgress
from worker.contract import Model
from worker.device import Device, prove_device
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.session import SessionSetup
from worker.stop import StopReason, StopToken
from worker.tasks import find_tasks
from worker.tasks.echo import Echo


def simulated(speed: float = 1.0) -> Device:
    chosen: dict[str, Any] = {"inference_device": "simulated-gpu", "simulated_gpu_speed": speed}
    return prove_device(Settings(_env_file=None, **chosen), 1)


def echo_on(device: Device, stop: StopToken) -> Model:
    registry = Registry(
        Repository(Path("models"), find_tasks()), lambda version: SessionSetup([CPU_PROVIDER]), speed=device.speed
    )
    return registry.load("echo", 1).for_run(stop)


def seconds_of_a_pause(model: Model, pause_s: float) -> float:
    began = time.monotonic()
    said = Echo().run(None, Echo.Params(values=[2.5], pause_s=pause_s), model, RecordedProgress())
    assert said == {"values": [2.5]}
    return time.monotonic() - began


def test_simulated_gpu_declares_a_gpu_on_the_cpu_provider_and_says_so() -> None:
    with structlog.testing.capture_logs() as lines:
        device = simulated(4.0)
    assert (device.pool, device.providers.using) == (Pool.GPU, [CPU_PROVIDER])
    assert device.name.startswith("simulated-gpu (cpu ")
    assert (device.simulated, device.speed) == (True, 4.0)
    assert [line["speed"] for line in lines if "plays a GPU" in line["event"]] == [4.0]


def test_a_real_device_is_not_simulated() -> None:
    device = prove_device(Settings(_env_file=None, inference_device="cpu", simulated_gpu_speed=4.0), 1)
    assert (device.simulated, device.speed) == (False, 1.0)


def test_pause_is_waited_through_in_full_on_a_cpu_and_faster_on_a_faster_device() -> None:
    device = prove_device(Settings(_env_file=None, inference_device="cpu"), 1)
    assert seconds_of_a_pause(echo_on(device, StopToken()), 0.2) >= 0.2
    # A hundred seconds would be longer than any test may last; and no longer than a minute may be asked for.
    assert seconds_of_a_pause(echo_on(simulated(1000.0), StopToken()), 60.0) >= 0.06


class NotedWaits(StopToken):
    """Waits are noted instead of waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        return False


def test_slow_simulated_gpu_takes_as_many_times_as_long_for_a_real_run() -> None:
    stop = NotedWaits()
    model = echo_on(simulated(0.001), stop)
    began = time.monotonic()
    model.run({"x": np.zeros(1_000_000, np.float32)})
    real_s = time.monotonic() - began
    (added_s,) = stop.waits
    assert 0 < added_s <= real_s * 999


def test_pause_ends_with_the_stop() -> None:
    stop = StopToken()
    threading.Timer(0.1, stop.set, [StopReason.CANCELLED]).start()
    with pytest.raises(RunStopped) as caught:
        seconds_of_a_pause(echo_on(simulated(0.001), stop), 60.0)
    assert caught.value.code == "cancelled"


def test_simulated_gpu_is_refused_in_production_and_beside_a_promise_of_the_cpu() -> None:
    for other in ({"environment": "production"}, {"worker_pool": "cpu"}):
        with pytest.raises(ValidationError, match="INFERENCE_DEVICE=simulated-gpu"):
            Settings(_env_file=None, inference_device="simulated-gpu", **other)  # type: ignore[arg-type]
