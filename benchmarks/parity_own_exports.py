"""As `make parity ARGS=detection`, for detectors whose packages are made for older versions of all they want.

    python benchmarks/parity_own_exports.py [--python PATH] [--photographs A.jpg B.jpg]

YOLO-NAS, YOLOv7, RT-DETR of an older ultralytics, and DETRs with their post-processing in the graph. The packages are
unpacked in .venv-parity/own-exports, once, and run by the Python of `make parity`, or by --python.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from parity import PHOTOGRAPHS
from parity_environment import ROOT, made_environment

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path)
    parser.add_argument("--photographs", type=Path, nargs="+", default=PHOTOGRAPHS)
    asked = parser.parse_args()
    python = asked.python or made_environment()
    packages = unpacked(python, ROOT / ".venv-parity" / "own-exports")
    names = [str(photograph.resolve()) for photograph in asked.photographs]
    with tempfile.TemporaryDirectory(prefix="fleet-parity-") as folder:
        for reference, package in REFERENCES.items():
            where = packages / package.partition("==")[0].replace("-", "_")
            run = [str(python), str(HERE / reference), folder, str(where), *names]
            around = os.environ | {"PYTHONPATH": str(packages / "small"), "YOLO_AUTOINSTALL": "false", "HOME": folder}
            said = subprocess.run(run, check=False, capture_output=True, text=True, cwd=folder, env=around)
            if said.returncode:
                print(f"{package} did not run:\n{said.stderr[-4000:]}", file=sys.stderr)
                return 1
            print(said.stdout.strip().splitlines()[-1], flush=True)
        run = [sys.executable, str(HERE / "parity_detection.py"), folder, *names]
        return subprocess.run(run, check=False).returncode


def unpacked(python: Path, to: Path) -> Path:
    """With a folder for each package, and `small` for what they use."""
    complete = to / ".complete"
    wanted = "\n".join([*REFERENCES.values(), *SMALL])
    if complete.is_file() and complete.read_text("utf-8") == wanted:
        return to
    pip = [str(python), "-m", "pip"]
    small = ["--quiet", "--no-deps", "--upgrade", "--target", str(to / "small")]
    subprocess.run([*pip, "install", *small, *SMALL], check=True)
    for package in REFERENCES.values():
        with tempfile.TemporaryDirectory() as folder:
            how = ["--quiet", "--no-deps", "--no-build-isolation", "--dest", folder]
            subprocess.run([*pip, "download", *how, package], check=True)
            (packed,) = Path(folder).iterdir()
            name = package.partition("==")[0].replace("-", "_")
            if packed.suffix == ".whl":
                zipfile.ZipFile(packed).extractall(to / name)
            else:
                with tarfile.open(packed) as archive:
                    archive.extractall(folder, filter="data")
                (Path(folder) / package.replace("==", "-")).rename(to / name)
    complete.write_text(wanted, "utf-8")
    return to


if __name__ == "__main__":
    sys.exit(main())
