"""What a worker may use is found where the kernel says it, in both versions of cgroups."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from worker.children import limit_growth
from worker.memory.cgroup import Cgroup, find_cgroup
from worker.memory.limit import GIB, MIB, Limit, LimitedBy, find_limit, held_bytes, lies_in_memory, used_bytes
from worker.memory.room import ArrayRoom

LINUX = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's /proc")


class Kernel:
    """Files as the kernel shows them, in a folder: /proc/self and a mounted hierarchy."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.mount = folder / "proc", folder / "cgroup"
        self.proc.mkdir()
        self.mount.mkdir()

    def says(self, cgroup: str, mountinfo: str) -> None:
        (self.proc / "cgroup").write_text(cgroup)
        (self.proc / "mountinfo").write_text(mountinfo.format(mount=self.mount))

    def group(self, path: str, **files: object) -> None:
        folder = self.mount / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(f"{content}\n")

    def found(self) -> Cgroup:
        return find_cgroup(self.proc)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


V2_MOUNT = "31 23 0:28 / {mount} rw,relatime - cgroup2 cgroup2 rw\n"
V1_MOUNT = "35 31 0:31 {root} {{mount}} rw,relatime - cgroup cgroup rw,memory\n"


def test_version_2_in_a_container_of_its_own(kernel: Kernel) -> None:
    kernel.says("0::/\n", V2_MOUNT)
    stat = "anon 100\nfile 300\ninactive_file 250\nactive_file 50"
    kernel.group("", memory__max=2 * GIB, memory__high="max", memory__current=GIB + 300, memory__stat=stat)
    assert kernel.found().limit_bytes == 2 * GIB
    assert kernel.found().free_bytes() == GIB, "pages of files can be dropped"


def test_version_2_takes_the_lowest_limit_on_the_way_up(kernel: Kernel) -> None:
    kernel.says("0::/system.slice/worker.service\n", V2_MOUNT)
    kernel.group("system.slice/worker.service", memory__max="max", memory__high=3 * GIB, memory__current=GIB)
    kernel.group("system.slice", memory__max=2 * GIB, memory__current=GIB + 512 * MIB)
    kernel.group("", memory__stat="anon 5")
    assert kernel.found().limit_bytes == 2 * GIB
    assert kernel.found().free_bytes() == 512 * MIB


def test_version_1_in_a_container_whose_mount_begins_at_its_own_group(kernel: Kernel) -> None:
    kernel.says("9:name=systemd:/\n4:memory:/docker/abc\n0::/\n", V1_MOUNT.format(root="/docker/abc"))
    stat = "cache 300\ntotal_inactive_file 100\ntotal_active_file 200"
    kernel.group("", memory__limit_in_bytes=GIB, memory__usage_in_bytes=500 * MIB + 300, memory__stat=stat)
    assert kernel.found().limit_bytes == GIB
    assert kernel.found().free_bytes() == GIB - 500 * MIB


def test_version_1_says_no_limit_by_a_number_that_no_machine_has(kernel: Kernel) -> None:
    kernel.says("4:memory:/a/b\n", V1_MOUNT.format(root="/"))
    for path in ("a/b", "a", ""):
        kernel.group(path, memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=1)
    assert kernel.found().folders == (kernel.mount / "a" / "b", kernel.mount / "a", kernel.mount)
    assert kernel.found().limit_bytes is None
    assert kernel.found().free_bytes() is None


def test_version_1_next_to_version_2_has_the_memory(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    unified = f"41 31 0:38 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
    kernel.says("0::/\n4:memory:/\n", unified + V1_MOUNT.format(root="/"))
    kernel.group("", memory__limit_in_bytes=GIB, memory__usage_in_bytes=1)
    assert kernel.found().limit_bytes == GIB


def test_a_system_without_cgroups_has_no_limit_but_the_machine(tmp_path: Path) -> None:
    assert find_cgroup(tmp_path / "nowhere").limit_bytes is None
    assert find_limit(0, Cgroup()) == Limit(psutil.virtual_memory().total, LimitedBy.MACHINE)


def test_the_lowest_limit_wins_and_is_named(kernel: Kernel) -> None:
    kernel.says("0::/\n", V2_MOUNT)
    kernel.group("", memory__max=64 * MIB, memory__current=1)
    assert find_limit(0, kernel.found()) == Limit(64 * MIB, LimitedBy.CGROUP)
    assert find_limit(32 * MIB, kernel.found()) == Limit(32 * MIB, LimitedBy.SETTING)
    assert find_limit(2**60, kernel.found()).by is LimitedBy.CGROUP


@pytest.mark.parametrize(
    ("limit", "kept"), [(GIB, 192 * MIB), (10 * GIB, 512 * MIB), (100 * GIB, GIB), (100 * MIB, 192 * MIB)]
)
def test_a_twentieth_is_kept_back_within_bounds(limit: int, kept: int) -> None:
    assert Limit(limit, LimitedBy.MACHINE).reserve_bytes == kept


@LINUX
def test_memory_of_children_counts_as_ours() -> None:
    code = "import sys; block = bytearray(200 * 2**20); print('ready', flush=True); sys.stdin.read()"
    before = used_bytes()
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert used_bytes() - before > 190 * MIB
        assert held_bytes(child.pid) > 190 * MIB
        child.kill()
    assert held_bytes(child.pid) == 0


@LINUX
def test_pages_of_a_file_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 * MIB))
    before = held_bytes(os.getpid())
    mapped = np.memmap(tmp_path / "file", np.uint8, "r")
    assert mapped.sum() == 0
    assert held_bytes(os.getpid()) - before < 16 * MIB


@LINUX
def test_a_folder_in_memory_is_told_from_one_on_disk() -> None:
    assert lies_in_memory(Path("/dev/shm"))
    assert not lies_in_memory(Path("/proc"))


@LINUX
def test_a_process_that_limits_its_growth_fails_alone() -> None:
    code = (
        "from worker.children import limit_growth\n"
        "limit_growth(100 * 2**20)\n"
        "bytearray(50 * 2**20)\n"
        "try:\n    bytearray(200 * 2**20)\n"
        "except MemoryError:\n    print('refused')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "refused\n"
    assert callable(limit_growth)


def test_arrays_on_disk_are_like_those_in_memory_and_leave_nothing(tmp_path: Path) -> None:
    in_memory, on_disk = ArrayRoom(), ArrayRoom(tmp_path)
    assert (in_memory.on_disk, on_disk.on_disk) == (False, True)
    for shape, dtype in (((3, 4, 5), np.float32), ((7,), bool), ((0, 2), np.int16)):
        array, usual = on_disk.zeros(shape, dtype), in_memory.zeros(shape, dtype)
        assert type(array) is np.ndarray
        assert (array.shape, array.dtype) == (usual.shape, usual.dtype)
        assert not array.any()
        array[...] = 1
        assert array.all()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_disk_without_room_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"space|large"):
        ArrayRoom(tmp_path).zeros((1 << 31, 1 << 14), np.float32)
