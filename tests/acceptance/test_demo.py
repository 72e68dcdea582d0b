"""`fleet demo`, in a folder whose `.env` was written for a deployment, untouched secrets and all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fleet.settings import Settings
from tests.support.clone import ROOT


def test_the_demo_finds_the_brain_beside_an_env_file_of_a_deployment(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    names = {name.upper() for name in Settings.model_fields}
    bare = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-m", "cli.main", "demo", "--out", "found", "--data", "data"]
    demo = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=bare, timeout=280)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "1,429" in demo.stdout
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"mask.nii.gz", "preview.png"}
