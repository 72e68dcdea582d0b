"""Another library, or another server, in an environment of its own, beside what is measured here."""

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence


class TimedProcess:
    """Does its work once each time it is told to: it says what it is, then for each line it reads seconds it took."""

    def __init__(self, command: Sequence[str], quiet: dict[str, str], named: str) -> None:
        """`quiet`: of its environment, what keeps it from the network and from saying more than it is asked.

        `named`: how the line begins that says what it is; some say more than that before.
        """
        self._named = named
        self._process = subprocess.Popen(
            command, env=os.environ | quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._line()
        while not self.version.startswith(named):
            self.version = self._line()

    def once(self) -> tuple[float, float]:
        """Seconds, and seconds of processor, of the work."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        wall_s, cpu_s = self._line().split()
        return float(wall_s), float(cpu_s)

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._named} did not run: see its traceback above")
        return line.strip()


def answers(url: str) -> bool:
    """Whether there is a server that answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
