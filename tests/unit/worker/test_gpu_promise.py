"""A GPU that cannot be used is named with what it lacks, and no model is served by the CPU in its place."""

import ctypes
import shutil
from pathlib import Path

import onnxruntime
import pytest

from fleet.contracts import Pool
from fleet.errors import NoCapableWorker
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER, Settings
from tests.support.clone import ROOT
from worker.device import prove_device
from worker.engine.cuda_faults import PROVIDER_LIBRARY, cuda_fault, is_poison
from worker.engine.registry import refuse_silent_cpu
from worker.engine.repository import Repository
from worker.engine.session import _run_error
from worker.engine.setup import Setups, session_providers
from worker.exits import MEANINGS, ExitCode
from worker.tasks import find_tasks

FOR_CUDA = CUDA_PROVIDER in onnxruntime.get_available_providers()


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


class Driver:
    """As much of libcuda as is asked."""

    def __init__(self, answer: int = 0) -> None:
        self._answer = answer

    def cuInit(self, _flags: int) -> int:
        return self._answer


def built_for_cuda(folder: Path) -> Path:
    (folder / PROVIDER_LIBRARY).touch()
    return folder


def loader(missing: str = "", sentence: str = "", driver: Driver | None = None) -> object:
    def load(name: str) -> object:
        if missing and missing in name:
            raise OSError(sentence)
        return driver or Driver()

    return load


def test_build_without_cuda_is_named(tmp_path: Path) -> None:
    assert "not built for CUDA: install onnxruntime-gpu" in (cuda_fault(tmp_path) or "")


@pytest.mark.skipif(has_driver(), reason="this machine has a driver")
def test_missing_driver_is_named_in_the_loaders_words(tmp_path: Path) -> None:
    fault = cuda_fault(built_for_cuda(tmp_path)) or ""
    assert fault.startswith("no NVIDIA driver is here: libcuda.so.1: cannot open shared object file")


def test_missing_library_is_named_in_the_loaders_words(tmp_path: Path) -> None:
    sentence = "libcudnn.so.9: cannot open shared object file: No such file or directory"
    fault = cuda_fault(built_for_cuda(tmp_path), loader(PROVIDER_LIBRARY, sentence))  # type: ignore[arg-type]
    assert fault == f"a library that CUDA needs is missing or does not fit: {sentence}"


def test_file_that_is_no_library_is_what_the_real_loader_says_it_is(tmp_path: Path) -> None:
    def load(name: str) -> object:
        return ctypes.CDLL(name) if name.startswith(str(tmp_path)) else Driver()

    for name in (PROVIDER_LIBRARY, "libonnxruntime_providers_shared.so"):
        (tmp_path / name).write_text("no library", "ascii")
    assert str(tmp_path) in (cuda_fault(tmp_path, load) or "")


@pytest.mark.parametrize(("answer", "said"), [(100, "CUDA_VISIBLE_DEVICES hides it"), (803, "cuInit says 803")])
def test_driver_without_a_gpu_is_named(tmp_path: Path, answer: int, said: str) -> None:
    fault = cuda_fault(built_for_cuda(tmp_path), loader(driver=Driver(answer)))  # type: ignore[arg-type]
    assert said in (fault or "")


def test_nothing_is_missing_when_all_is_there(tmp_path: Path) -> None:
    assert cuda_fault(built_for_cuda(tmp_path), loader()) is None  # type: ignore[arg-type]


@pytest.mark.skipif(FOR_CUDA, reason="this build may well keep it")
@pytest.mark.parametrize(
    ("promise", "named"),
    [({"worker_pool": "gpu"}, "WORKER_POOL=gpu"), ({"inference_device": "cuda"}, "INFERENCE_DEVICE=cuda")],
)
def test_promise_that_cannot_be_kept_names_itself_and_the_reason(promise: dict[str, str], named: str) -> None:
    with pytest.raises(NoCapableWorker, match="does not have it: install onnxruntime-gpu") as caught:
        prove_device(Settings(_env_file=None, **promise), 1)  # type: ignore[arg-type]
    assert caught.value.code == "gpu-unusable"
    assert caught.value.message.startswith(f"{named} promises a GPU")


@pytest.mark.gpu
@pytest.mark.skipif(not (FOR_CUDA and has_driver()), reason="no GPU is here")
def test_real_gpu_keeps_its_promise_and_lacks_nothing() -> None:
    device = prove_device(Settings(_env_file=None, inference_device="cuda"), 1)
    assert (device.pool, device.providers.best, device.simulated) == (Pool.GPU, CUDA_PROVIDER, False)
    assert cuda_fault() is None


def test_session_that_fell_back_to_the_cpu_is_not_served() -> None:
    with pytest.raises(NoCapableWorker, match="echo/1 was to run with CUDAExecutionProvider") as caught:
        refuse_silent_cpu("echo/1", [CUDA_PROVIDER, CPU_PROVIDER], CPU_PROVIDER)
    assert caught.value.code == "gpu-unusable"
    refuse_silent_cpu("echo/1", [CUDA_PROVIDER, CPU_PROVIDER], CUDA_PROVIDER)
    refuse_silent_cpu("echo/1", [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER], CUDA_PROVIDER)
    refuse_silent_cpu("echo/1", [CPU_PROVIDER], CPU_PROVIDER)


@pytest.mark.parametrize(
    ("asked", "working", "taken"),
    [
        ([], [CUDA_PROVIDER, CPU_PROVIDER], [CUDA_PROVIDER, CPU_PROVIDER]),
        ([CPU_PROVIDER], [CUDA_PROVIDER, CPU_PROVIDER], [CPU_PROVIDER]),
        ([TENSORRT_PROVIDER, CPU_PROVIDER], [CUDA_PROVIDER, CPU_PROVIDER], [CUDA_PROVIDER, CPU_PROVIDER]),
        ([TENSORRT_PROVIDER, CUDA_PROVIDER], [CUDA_PROVIDER, CPU_PROVIDER], [CUDA_PROVIDER]),
        ([CUDA_PROVIDER, CPU_PROVIDER], [CPU_PROVIDER], [CPU_PROVIDER]),
        ([CUDA_PROVIDER], [CPU_PROVIDER], [CPU_PROVIDER]),
    ],
)
def test_model_gets_the_providers_that_it_asks_for_and_the_cpu_of_a_gpu_only_by_asking(
    asked: list[str], working: list[str], taken: list[str]
) -> None:
    assert session_providers(asked, working) == taken


@pytest.mark.parametrize(
    ("message", "poison"),
    [
        ("CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=a", True),
        ("CUDNN failure 5003: CUDNN_STATUS_EXECUTION_FAILED_CUDART ; GPU=0", True),
        ("CUBLAS failure 14: CUBLAS_STATUS_INTERNAL_ERROR ; GPU=0", True),
        ("CUDA failure 2: out of memory ; GPU=0 ; hostname=a", False),
        ("Failed to allocate memory for requested buffer of size 17179869184", False),
        ("Got invalid dimensions for input: x", False),
    ],
)
def test_failure_that_takes_the_context_along_is_told_from_one_that_does_not(message: str, poison: bool) -> None:
    assert is_poison(message) is poison
    assert (_run_error(RuntimeError(message), CUDA_PROVIDER).code == "gpu-lost") is poison
    assert _run_error(RuntimeError(message), CPU_PROVIDER).code != "gpu-lost"


def test_every_exit_code_has_its_meaning_in_words() -> None:
    assert set(MEANINGS) == set(ExitCode)


@pytest.mark.parametrize(("policy", "device"), [("gpu-only", "cpu"), ("cpu-only", "simulated-gpu")])
def test_a_model_for_the_other_kind_of_device_is_not_loaded(policy: str, device: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "echo", tmp_path / "echo")
    manifest = tmp_path / "echo" / "model.yaml"
    manifest.write_text(manifest.read_text().replace("device: any", f"device: {policy}"))
    version = Repository(tmp_path, find_tasks()).get("echo", 1)
    proven = prove_device(Settings(_env_file=None, inference_device=device), 1)
    with pytest.raises(NoCapableWorker, match="only, and the device of this worker is") as caught:
        Setups(proven)(version)
    assert caught.value.code == "wrong-device"
