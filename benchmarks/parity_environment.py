"""The libraries that answers are compared with, in an environment of their own: nothing of Fleet imports them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "torch==2.13.0",
    "torchvision==0.28.0",
    "sentence-transformers==6.2.0",
    "transformers==5.23.0",
    "timm==1.0.31",
    "ultralytics==8.4.190",
    "onnx",
    "onnxruntime",
)
OPENCV = "opencv-python-headless==5.0.0.93"


def made_environment() -> Path:
    """Its Python; made in .venv-parity when it is not there, or was made for other packages."""
    folder = ROOT / ".venv-parity"
    python, complete = folder / "bin" / "python", folder / ".complete"
    wanted = "\n".join([*PACKAGES, OPENCV])
    if not complete.is_file() or complete.read_text("utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", *PACKAGES], check=True)
        # That which ultralytics wants needs libraries of a desktop; both are the same package to who imports it.
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", "opencv-python"], check=True)
        subprocess.run([*pip, "install", "--quiet", "--no-deps", OPENCV], check=True)
        complete.write_text(wanted, "utf-8")
    return python
