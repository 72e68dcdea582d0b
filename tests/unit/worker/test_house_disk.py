"""The disk cache: filled once for all who wait, bounded, and never missing what somebody uses."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.errors import NoCapableWorker, RunStopped
from worker.house.disk import Disk

Make = Callable[[Path, int], Disk]
NOTHING = lambda: None  # noqa: E731


@pytest.fixture
def made() -> Iterator[Make]:
    """Makes disks as processes have them, each with locks of its own."""
    disks: list[Disk] = []

    def make(root: Path, max_bytes: int) -> Disk:
        disks.append(Disk(root, max_bytes))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


def fill(size: int = 100, calls: list[Path] | None = None) -> Callable[[Path], None]:
    def filled(folder: Path) -> None:
        if calls is not None:
            calls.append(folder)
        (folder / "file").write_bytes(bytes(size))

    return filled


def test_many_who_want_an_entry_have_it_filled_once(tmp_path: Path, made: Make) -> None:
    calls: list[Path] = []
    disks = [made(tmp_path, 1000), made(tmp_path, 1000)]
    threads = [
        threading.Thread(target=disks[n % 2].entry, args=("m/1-a", 100, fill(calls=calls), NOTHING)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (tmp_path / "house" / "m" / "1-a" / "file").stat().st_size == 100


def test_what_was_used_longest_ago_goes_for_a_newcomer(tmp_path: Path, made: Make) -> None:
    before = made(tmp_path, 250)
    for number, key in enumerate(("m/1-a", "m/2-b")):
        os.utime(before.entry(key, 100, fill(), NOTHING), (number, number))
    before.close()
    disk = made(tmp_path, 250)
    disk.entry("m/3-c", 100, fill(), NOTHING)
    assert sorted(entry.name for entry in (tmp_path / "house" / "m").iterdir()) == ["2-b", "3-c"]


def test_what_is_in_use_does_not_go_and_the_newcomer_is_refused_with_numbers(tmp_path: Path, made: Make) -> None:
    user, other = made(tmp_path, 150), made(tmp_path, 150)
    user.entry("m/1-a", 100, fill(), NOTHING)
    with pytest.raises(NoCapableWorker, match="150") as caught:
        other.entry("m/2-b", 100, fill(), NOTHING)
    assert caught.value.code == "model-cache-full"
    assert (tmp_path / "house" / "m" / "1-a").is_dir()


def test_a_fill_that_is_stopped_is_gone_on_with(tmp_path: Path, made: Make) -> None:
    def stopped(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise RunStopped("cancelled", code="cancelled")

    def rest(folder: Path) -> None:
        assert (folder / "half").read_bytes() == b"half"

    disk = made(tmp_path, 1000)
    with pytest.raises(RunStopped):
        disk.entry("m/1-a", 100, stopped, NOTHING)
    assert not (tmp_path / "house" / "m").exists()
    disk.entry("m/1-a", 100, rest, NOTHING)


def test_who_waits_for_another_process_can_be_stopped(tmp_path: Path, made: Make) -> None:
    code = (
        "import sys, pathlib; from worker.house.disk import Disk\n"
        "def slow(folder): print('filling', flush=True); sys.stdin.read()\n"
        f"Disk(pathlib.Path({str(tmp_path)!r}), 1000).entry('m/1-a', 1, slow, lambda: None)"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as filler:
        assert filler.stdout is not None
        assert filler.stdout.readline() == b"filling\n"
        looks = iter(range(3))

        def check() -> None:
            if next(looks, None) is None:
                raise RunStopped("cancelled", code="cancelled")

        disk = made(tmp_path, 1000)
        with pytest.raises(RunStopped):
            disk.entry("m/1-a", 1, fill(), check)
        # A process that dies lets go.
        filler.kill()
        filler.wait()
        disk.entry("m/1-a", 1, fill(), NOTHING)
    assert (tmp_path / "house" / "m" / "1-a" / "file").is_file()


def test_leftovers_of_crashes_go_after_a_day_unless_somebody_is_at_them(tmp_path: Path, made: Make) -> None:
    disk = made(tmp_path, 1000)
    for place, name in (("partial", "m/1-a"), ("imports", "m/1"), ("imports", "m/2")):
        folder = tmp_path / place / name
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    (tmp_path / "imports" / "m" / "3").mkdir()
    with disk.locked("m/2.import", NOTHING):
        disk.sweep()
    assert sorted(path.name for path in tmp_path.glob("imports/*/*")) == ["2", "3"]
    assert not list(tmp_path.glob("partial/*/*"))
