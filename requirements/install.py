"""Makes `.venv` from a set of pinned packages, once: `python requirements/install.py run|dev`. Called by make.

Needs only the standard library. What was installed is written to a stamp in `.venv`, last of all: a second run
compares the stamp and ends at once, and a run that was cut short leaves a mark that makes the next one start over.
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

#: Sets of packages -> the sets that hold at least the same.
SETS = {"run": ("run", "dev"), "dev": ("dev",)}
PACKAGES = ("client", ".")
UNFINISHED = ".stamp-unfinished"
BIG_DOWNLOAD = re.compile(r"Downloading (\S+?)-\d\S* \((\d{2,}\.?\d* MB)\)")
SETTLED = re.compile(r"(?:Collecting|Requirement already satisfied:|Ignoring) ([A-Za-z0-9._-]+)")


class InstallFailed(Exception):
    """Carries what to tell the user."""


class Environment:
    """The virtual environment of one clone, at `root/.venv`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ".venv"
        self.python = self.path / "bin" / "python"

    def wanted(self, name: str) -> str:
        """What a finished install of this set is known by: its pins, our own metadata, the Python, the place."""
        described = hashlib.sha256((self.root / "requirements" / f"{name}.txt").read_bytes())
        for folder in PACKAGES:
            table = tomllib.loads((self.root / folder / "pyproject.toml").read_text("utf-8"))
            described.update(json.dumps([table["project"], table["build-system"]], sort_keys=True).encode())
        described.update((self.path / "pyvenv.cfg").read_bytes())
        described.update(os.fsencode(self.path))
        return described.hexdigest()

    def holds(self, name: str) -> bool:
        """Whether the set, or one that includes it, was installed completely and is still what is wanted."""
        if not self.python.exists() or (self.path / UNFINISHED).exists():
            return False
        stamps = ((larger, self.path / f".stamp-{larger}") for larger in SETS[name])
        return any(stamp.is_file() and stamp.read_text() == self.wanted(larger) for larger, stamp in stamps)

    def usable(self) -> bool:
        """Whether packages can be added to what is there: not cut short, not moved, its Python still works."""
        if not self.python.exists() or (self.path / UNFINISHED).exists():
            return False
        script = self.path / "bin" / "pip"
        made_here = script.is_file() and str(self.path) in script.read_text("utf-8", "replace")
        if not made_here:
            return False
        probe = [str(self.python), "-c", "import sys, pip; sys.exit(sys.version_info < (3, 11))"]
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0

    def create(self) -> None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        say(f"Making .venv with Python {version} ({sys.executable})")
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", self.path], check=False, capture_output=True, text=True
        )
        if made.returncode:
            raise InstallFailed(
                f"{(made.stdout + made.stderr).strip()}\n\n{sys.executable} cannot make virtual environments. "
                f"On Debian and Ubuntu: apt install python{version}-venv. "
                "Or name another Python: make PYTHON=/path/to/python3 ..."
            )

    def install(self, name: str) -> None:
        if not self.usable():
            self.create()
        unfinished = self.path / UNFINISHED
        unfinished.touch()
        for other in SETS:
            (self.path / f".stamp-{other}").unlink(missing_ok=True)
        pins = f"requirements/{name}.txt"
        total = sum(1 for line in (self.root / pins).read_text("utf-8").splitlines() if "==" in line)
        say(f"Installing {total} pinned packages ({pins})")
        # The pins are complete: what they leave out of a package's wishes is left out on purpose (overrides.in).
        self.pip(["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", pins], total)
        editable = [part for folder in PACKAGES for part in ("-e", f"./{folder}")]
        self.pip(["--no-build-isolation", "--no-deps", *editable], 0)
        stamp = self.path / f".stamp-{name}"
        stamp.write_text(self.wanted(name))
        unfinished.unlink()

    def pip(self, arguments: list[str], total: int) -> None:
        """Runs `pip install`, showing how far it is; everything it says goes to `.venv/install.log`."""
        options = ["--no-input", "--progress-bar", "off"]
        command = [str(self.python), "-m", "pip", "install", *options, *arguments]
        log = self.path / "install.log"
        with (
            log.open("w", encoding="utf-8") as record,
            subprocess.Popen(
                command,
                cwd=self.root,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as pip,
        ):
            show_progress(tee(pip.stdout or (), record), total)
        if pip.returncode:
            tail = "\n".join(log.read_text("utf-8").splitlines()[-15:])
            raise InstallFailed(f"{tail}\n\npip could not install; all it said is in {log}")


def tee(lines: Iterable[str], record: TextIO) -> Iterator[str]:
    for line in lines:
        record.write(line)
        yield line


def show_progress(lines: Iterable[str], total: int) -> None:
    """One line that changes on a terminal; a few lines elsewhere."""
    terminal = sys.stdout.isatty()
    done = 0
    for line in lines:
        said = ""
        if settled := SETTLED.match(line):
            done += 1
            said = f"  {done}/{total} {settled[1]}" if terminal or done % 25 == 0 else ""
        elif download := BIG_DOWNLOAD.search(line):
            said = f"  {done}/{total} downloading {download[1]}, {download[2]}"
        elif line.startswith("Installing collected packages"):
            said = "  unpacking"
        if said and total:
            sys.stdout.write(f"\r\033[K{said}" if terminal else f"{said}\n")
            sys.stdout.flush()
    if terminal and total:
        sys.stdout.write("\r\033[K")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Two makes in one clone take turns. The kernel drops the lock when its holder dies."""
    descriptor = os.open(root / "requirements", os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another installation is under way in this folder; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in SETS:
        say(f"usage: sh requirements/install.sh {'|'.join(SETS)}")
        return 2
    environment = Environment(Path(__file__).resolve().parent.parent)
    try:
        if not environment.holds(arguments[0]):
            with alone(environment.root):
                if not environment.holds(arguments[0]):
                    environment.install(arguments[0])
    except InstallFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped; the next run starts over.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
