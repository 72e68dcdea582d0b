"""As `reference_detection.py`, for YOLOv7 of its own repository, which the package yolov7detect carries.

    pip download --no-deps yolov7detect==1.0.1                             and unpack it
    python reference_yolov7.py FOLDER UNPACKED PHOTOGRAPH...

A small network of its layers, exported as its export.py does it: with `--grid`, with one class, and with `--grid
--end2end --max-wh 640`, which suppresses in the graph.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from reference_detection import SIZE, save, told
from reference_older_yolos import excite
from unused_modules import empty_if_missing
from whole_torchvision import import_torchvision

UNUSED = ("seaborn", "IPython", "pandas", "thop", "wandb", "tensorboard", "pycocotools")
#: Five halvings, and a head on each of the last three.
LAYERS: dict[str, Any] = {
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "anchors": [[10, 14, 22, 30, 44, 26], [40, 80, 70, 60, 60, 140], [140, 110, 190, 240, 450, 400]],
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "MP", []],
        [-1, 1, "Conv", [64, 1, 1]],
        [-1, 1, "MP", []],
        [-1, 1, "SPPCSPC", [64]],
    ],
    "head": [[[2, 4, 6], 1, "IDetect", ["nc", "anchors"]]],
}


def main(folder: Path, unpacked: Path, photographs: list[Path]) -> None:
    _torchvision = import_torchvision()
    sys.path.insert(0, str(unpacked))
    empty_if_missing(*UNUSED)
    from yolov7.models.experimental import End2End

    for name, classes in (("yolov7", 20), ("yolov7-one-class", 1)):
        network = made(classes)
        network.model[-1].concat = True
        save(*seen(folder / name, network), photographs, partial(suppressed, session_of(folder / name)))
    network = made(20)
    whole = End2End(network, 100, 0.45, 0.05, 640, torch.device("cpu"), 20)
    save(*seen(folder / "yolov7-end2end", whole), photographs, partial(in_graph, session_of(folder / "yolov7-end2end")))
    print(f"yolov7detect 1.0.1, torch {version('torch')}")


def made(classes: int) -> Any:
    from yolov7.models.yolo import Model

    torch.manual_seed(7)
    network = Model(LAYERS | {"nc": classes}, ch=3).eval()
    excite(network, network.model[-1].m, 0.1)
    # As it loads its weights.
    with torch.no_grad():
        return network.fuse()


def seen(home: Path, network: Any) -> tuple[Path, str]:
    (home / "1").mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network, (torch.zeros(1, 3, SIZE, SIZE),), str(home / "1" / "model.onnx"), opset_version=12, dynamo=False,
        input_names=["images"], output_names=["output"],
    )  # fmt: skip
    return home, "yolov7"


def session_of(home: Path) -> Callable[[], Any]:
    """Once it is there."""
    return lambda: onnxruntime.InferenceSession(str(home / "1" / "model.onnx"))


def suppressed(session: Callable[[], Any], photograph: Path, confidence: float) -> Any:
    from yolov7.utils.general import non_max_suppression, scale_coords

    picture, pixels, _, _ = laid(photograph)
    (answer,) = session().run(None, {"images": pixels})
    (rows,) = non_max_suppression(torch.from_numpy(answer), max(confidence, 1e-3), 0.45)
    rows[:, :4] = scale_coords((SIZE, SIZE), rows[:, :4], picture.shape)
    return told(rows[:, :4], rows[:, 4], rows[:, 5])


def in_graph(session: Callable[[], Any], photograph: Path, confidence: float) -> Any:
    _, pixels, gain, border = laid(photograph)
    (rows,) = session().run(None, {"images": pixels})
    rows = rows[rows[:, 6] > confidence]
    boxes = (rows[:, 1:5] - np.array(border * 2, np.float32)) / np.float32(gain)
    return told(boxes, rows[:, 6], rows[:, 5].astype(int))


def laid(photograph: Path) -> tuple[Any, Any, float, tuple[float, float]]:
    from yolov7.utils.datasets import letterbox

    picture: Any = cv2.imread(str(photograph))
    pixels, (gain, _), border = letterbox(picture, (SIZE, SIZE), auto=False)
    pixels = np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32)
    return picture, pixels / np.float32(255), gain, border


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
