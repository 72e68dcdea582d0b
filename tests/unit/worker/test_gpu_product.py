"""The GPU's name comes from the driver; where there is none, it has one that stands for any."""

import shutil
import subprocess

from worker.engine.gpu_product import UNKNOWN, gpu_product


def test_a_gpu_is_called_as_its_driver_calls_it() -> None:
    program = shutil.which("nvidia-smi")
    names = {UNKNOWN}
    if program is not None:
        command = [program, "--query-gpu=name", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        names = set(told.stdout.splitlines()) or names
    assert gpu_product() in names
