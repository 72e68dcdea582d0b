"""What `fleet work` would start: one process for each device and lane, on the GPUs that CUDA would show."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.devices import Gpu, WorkDevice, cuda_is_built_in, visible_gpus, work_devices
from cli.work_plan import PlannedProcess, parse_concurrency, plan_processes
from fleet.contracts import Lane, Pool
from fleet.errors import ValidationFailed
from fleet.settings import Settings
from worker.concurrency import default_concurrency

GPUS = [Gpu("gpu0", "GPU-aaaa1111", "NVIDIA H200"), Gpu("gpu1", "GPU-aabb2222", "NVIDIA H200")]


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)


def nvidia_smi(folder: Path, *lines: str, code: int = 0) -> dict[str, str]:
    """An environment whose `nvidia-smi` says this, and only when it is asked in the right way."""
    said = "".join(f"    print({line!r})\n" for line in lines) or "    pass\n"
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "if sys.argv[1:] == ['--query-gpu=index,uuid,name', '--format=csv,noheader']:\n"
        f"{said}    sys.exit({code})\nsys.exit('asked in another way')\n",
        "utf-8",
    )
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.defpath}"}


@pytest.fixture
def two(tmp_path: Path) -> dict[str, str]:
    return nvidia_smi(tmp_path, *(f"{gpu.label[3:]}, {gpu.uuid}, {gpu.name}" for gpu in GPUS))


def test_gpus_are_those_that_nvidia_smi_shows(two: dict[str, str]) -> None:
    assert visible_gpus(two) == GPUS


@pytest.mark.parametrize(
    ("visible", "labels"),
    [
        ("1", ["gpu1"]),
        ("1,0", ["gpu1", "gpu0"]),
        ("GPU-aabb2222", ["gpu1"]),
        ("GPU-aab", ["gpu1"]),
        ("GPU-aa", []),
        ("0,7,1", ["gpu0"]),
        ("0,0", ["gpu0"]),
        ("-1", []),
        ("", []),
        ("MIG-cccc,MIG-dddd", ["mig0", "mig1"]),
    ],
)
def test_visible_devices_are_honoured_as_cuda_does(two: dict[str, str], visible: str, labels: list[str]) -> None:
    assert [gpu.label for gpu in visible_gpus(two | {"CUDA_VISIBLE_DEVICES": visible})] == labels


def test_machine_without_a_driver_has_no_gpus(tmp_path: Path) -> None:
    assert visible_gpus({"PATH": str(tmp_path)}) == []
    assert visible_gpus(nvidia_smi(tmp_path, "NVIDIA-SMI has failed", code=9)) == []
    assert visible_gpus(nvidia_smi(tmp_path)) == []


def chosen(asked: list[str], gpus: list[Gpu], *, built: bool = True, **changes: Any) -> list[WorkDevice]:
    return work_devices(settings(**changes), asked, gpus, cuda_built_in=built)[0]


@pytest.mark.parametrize(
    ("asked", "gpus", "changes", "labels"),
    [
        ([], GPUS, {}, ["gpu0", "gpu1"]),
        ([], [], {}, ["cpu"]),
        ([], GPUS, {"worker_pool": "cpu"}, ["cpu"]),
        ([], GPUS, {"inference_device": "cpu"}, ["cpu"]),
        ([], GPUS, {"onnx_providers": ["OpenVINOExecutionProvider"]}, ["cpu"]),
        ([], [], {"worker_pool": "gpu"}, ["gpu0"]),
        ([], [], {"inference_device": "cuda"}, ["gpu0"]),
        ([], GPUS, {"inference_device": "simulated-gpu"}, ["simulated0"]),
        (["cuda:1"], GPUS, {}, ["gpu1"]),
        (["cuda:1", "cpu"], GPUS, {}, ["gpu1", "cpu"]),
        (["simulated-gpu", "simulated-gpu", "cpu"], [], {}, ["simulated0", "simulated1", "cpu"]),
    ],
)
def test_devices_are_those_asked_for_else_the_gpus_else_the_cpu(
    asked: list[str], gpus: list[Gpu], changes: dict[str, Any], labels: list[str]
) -> None:
    assert [device.label for device in chosen(asked, gpus, **changes)] == labels


def test_gpu_that_this_build_cannot_use_is_told_of_and_left_alone() -> None:
    devices, (note,) = work_devices(settings(), [], GPUS, cuda_built_in=False)
    assert [device.pool for device in devices] == [Pool.CPU]
    assert "2 GPU(s) are here (NVIDIA H200)" in note
    assert "onnxruntime-gpu" in note


def test_gpu_that_was_promised_is_promised_whatever_the_build() -> None:
    assert chosen([], [], built=False, worker_pool="gpu")[0].environment["WORKER_POOL"] == "gpu"


@pytest.mark.parametrize("asked", [["cuda:7"], ["tpu"], ["cuda:x"], ["cpu", "cpu"], ["cuda", "cuda:0"]])
def test_device_that_is_not_there_or_twice_is_refused(asked: list[str]) -> None:
    with pytest.raises(ValidationFailed) as caught:
        chosen(asked, GPUS)
    assert caught.value.code == "invalid-device"


def test_build_is_told_by_its_files() -> None:
    import onnxruntime

    assert cuda_is_built_in() is ("CUDAExecutionProvider" in onnxruntime.get_available_providers())


def planned(
    devices: list[WorkDevice], at_once: Mapping[Lane, int] | None = None, **changes: Any
) -> list[PlannedProcess]:
    return plan_processes(settings(**changes), devices, "base@host", Path("/run/ready"), at_once or {})


def test_each_device_and_lane_has_a_process_with_everything_of_its_own() -> None:
    devices = chosen([], GPUS)
    processes = planned(devices, worker_scratch=Path("/scratch"), worker_metrics_port=9100)
    assert [process.name for process in processes] == [
        "base-gpu0-interactive@host",
        "base-gpu0-bulk@host",
        "base-gpu1-interactive@host",
        "base-gpu1-bulk@host",
    ]
    told = processes[3].environment
    assert told["CUDA_VISIBLE_DEVICES"] == "GPU-aabb2222"
    assert (told["WORKER_POOL"], told["INFERENCE_DEVICE"], told["WORKER_LANES"]) == ("gpu", "cuda", "bulk")
    for name in ("WORKER_NAME", "WORKER_READY_FILE", "WORKER_SCRATCH", "WORKER_METRICS_PORT"):
        assert len({process.environment[name] for process in processes}) == 4, name
    assert [process.environment["WORKER_METRICS_PORT"] for process in processes] == ["9100", "9101", "9102", "9103"]


def test_what_the_settings_leave_open_is_left_to_the_process() -> None:
    (process,) = planned(chosen([], []), worker_lanes=["bulk"])
    assert "WORKER_SCRATCH" not in process.environment
    assert "WORKER_METRICS_PORT" not in process.environment
    assert "CUDA_VISIBLE_DEVICES" not in process.environment


def test_every_process_reads_its_environment_as_settings_without_contradiction() -> None:
    for process in planned(chosen(["simulated-gpu", "cpu", "cuda"], GPUS)):
        told = {name.lower(): value for name, value in process.environment.items() if name != "CUDA_VISIBLE_DEVICES"}
        read = settings(**told)
        assert (read.declared_pool, read.worker_lanes) == (process.device.pool, [process.lane])
        assert read.worker_concurrency == process.concurrency


@pytest.mark.parametrize(
    ("lanes", "pool", "cores", "at_once"),
    [
        ([Lane.INTERACTIVE], Pool.CPU, 2, 16),
        ([Lane.INTERACTIVE], Pool.GPU, 8, 16),
        ([Lane.BULK], Pool.GPU, 8, 1),
        ([Lane.BULK], Pool.CPU, 8, 2),
        ([Lane.BULK], Pool.CPU, 1, 1),
        ([Lane.INTERACTIVE, Lane.BULK], Pool.CPU, 8, 2),
        ([Lane.INTERACTIVE, Lane.BULK], Pool.GPU, 8, 1),
    ],
)
def test_jobs_at_once_go_by_lane_and_device(lanes: list[Lane], pool: Pool, cores: int, at_once: int) -> None:
    assert default_concurrency(lanes, pool, cores) == at_once


def test_concurrency_of_the_command_outranks_the_settings_for_its_lane() -> None:
    processes = planned(chosen([], []), parse_concurrency("bulk=3"), worker_concurrency=5)
    assert {process.lane: process.concurrency for process in processes} == {Lane.INTERACTIVE: 5, Lane.BULK: 3}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {}),
        ("4", {Lane.INTERACTIVE: 4, Lane.BULK: 4}),
        ("interactive=16,bulk=2", {Lane.INTERACTIVE: 16, Lane.BULK: 2}),
    ],
)
def test_concurrency_is_one_number_or_one_for_each_lane(text: str | None, found: dict[Lane, int]) -> None:
    assert parse_concurrency(text) == found


@pytest.mark.parametrize("text", ["0", "", "fast=2", "bulk=", "bulk=2,3", "257", "-1", "two"])
def test_concurrency_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_concurrency(text)
    assert caught.value.code == "invalid-concurrency"
