"""What the C allocator does with freed memory, seen by the pages that a thread touches for the first time."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
SCRIPT = """
import resource, sys, threading
from worker.memory.trim import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    picture, floats = bytearray(3_000_000), bytearray(5_000_000)
    del picture, floats
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

def work():
    keep_freed(int(sys.argv[1]))
    faults()
    print(faults())

threading.Thread(target=work).start()
"""


def pages_touched_anew(up_to_bytes: int) -> int:
    run = [sys.executable, "-c", SCRIPT, str(up_to_bytes)]
    return int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)


def test_memory_of_one_picture_is_there_for_the_next() -> None:
    assert pages_touched_anew(64 * 1024**2) < 100


def test_what_is_more_than_that_goes_back() -> None:
    # Fewer than there are pages where the system gives large ones.
    assert pages_touched_anew(1024**2) >= 100
