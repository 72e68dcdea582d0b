"""Fleet's answers beside those of the libraries that models come from: `make parity`.

    make parity                   (ARGS="detection classification --python PATH --photographs A.jpg B.jpg")

Texts against sentence-transformers, and of pictures what they show, what is found in them, their vectors, and what is
answered about them against ultralytics, transformers, timm and others: networks of chance that the libraries export
themselves, and trained ones that packages carry, with the library's own answers beside them. The part own-exports is
of detectors whose packages are made for older versions of what they want. Prints the tables of docs/how-to; fails where
one does not hold. The libraries are put into .venv-parity, once (2 GB, of PyTorch for a GPU more); --python leads to a
Python that has them. Without --photographs those of models/ are taken, and but for own-exports those of ultralytics.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import parity_own_exports
from parity_environment import filled, made_environment

HERE = Path(__file__).resolve().parent
PHOTOGRAPHS = [
    HERE.parent / "models" / place
    for place in (
        "centerface/example/astronaut.jpg",
        "efficientnet-lite0/example/cat.jpg",
        "efficientnet-lite0/example/coffee.jpg",
    )
]


@dataclass(frozen=True)
class Part:
    """`references` run where the libraries are and fill a folder, `compared` where Fleet is."""

    references: tuple[str, ...]
    compared: str


PARTS = {
    "detection": Part(
        ("reference_detection.py", "reference_older_yolos.py", "reference_real_detectors.py"), "parity_detection.py"
    ),
    "classification": Part(("reference_classification.py",), "parity_classification.py"),
    "image-embedding": Part(("reference_image_embedding.py",), "parity_image_embedding.py"),
    "visual-qa": Part(("reference_visual_qa.py",), "parity_visual_qa.py"),
}
NAMES = ("texts", *PARTS, "own-exports")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(NAMES)}; all, if none is named")
    parser.add_argument("--python", type=Path)
    parser.add_argument("--photographs", type=Path, nargs="+")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(NAMES):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    python, failed = (asked.python or made_environment()).absolute(), []
    own = [photograph.resolve() for photograph in asked.photographs or []]
    for name in asked.parts or NAMES:
        print(f"\n{name}", flush=True)
        if name == "texts":
            run = [sys.executable, str(HERE / "parity_embeddings.py"), "--python", str(python)]
            held = subprocess.run(run, check=False).returncode == 0
        elif name == "own-exports":
            held = parity_own_exports.compared(python, own or PHOTOGRAPHS)
        else:
            held = compared(PARTS[name], python, own or [*PHOTOGRAPHS, *carried(python)])
        failed += [] if held else [name]
    print(f"\nNOT HELD: {', '.join(failed)}" if failed else "\nheld")
    return 1 if failed else 0


def carried(python: Path) -> list[Path]:
    """Photographs that ultralytics has with it, of a street and of people, if this Python is of an environment."""
    return sorted(python.parents[1].glob("lib/python*/site-packages/ultralytics/assets/*.jpg"))


def compared(part: Part, python: Path, photographs: list[Path]) -> bool:
    names = [str(photograph) for photograph in photographs]
    with tempfile.TemporaryDirectory(prefix="fleet-parity-") as folder:
        for reference in part.references:
            if not filled(folder, [str(python), str(HERE / reference), folder, *names]):
                return False
        print(flush=True)
        run = [sys.executable, str(HERE / part.compared), folder, *names]
        return subprocess.run(run, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
