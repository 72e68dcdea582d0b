"""The files of the clone that git tracks or would track, so that house rules see what a reader gets."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("fleet", "api", "worker", "cli", "client/fleet_client")


def tracked_files() -> list[Path]:
    """Absolute paths. Outside a git checkout, all files but the environment and the caches."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split("\0")
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        hidden = (".venv", ".git", "__pycache__", "dist", "build", ".env")
        paths = [path for path in ROOT.rglob("*") if not set(hidden) & set(path.relative_to(ROOT).parts)]
        paths = [path for path in paths if not any(part.endswith(("_cache", ".egg-info")) for part in path.parts)]
    return sorted(path for path in paths if path.is_file())


def text_files() -> dict[str, str]:
    """Path from the root -> text, for every file that is text."""
    texts: dict[str, str] = {}
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            texts[str(path.relative_to(ROOT))] = data.decode("utf-8", "replace")
    return texts


def package_modules() -> dict[str, str]:
    """The Python modules that are shipped."""
    return {
        name: text
        for name, text in text_files().items()
        if name.endswith(".py") and name.startswith(tuple(f"{package}/" for package in PACKAGES))
    }
