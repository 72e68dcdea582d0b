"""As `reference_detection.py`, for YOLOv5's own repository and YOLOX, whose packages want many others.

    python reference_older_yolos.py FOLDER PHOTOGRAPH...

Of what they import and do not use here, what is missing is replaced by empty modules.
"""

import sys
from importlib import util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from reference_detection import SIZE, save, told
from unused_modules import empty_if_missing
from whole_torchvision import import_torchvision

_UNUSED = (
    "seaborn", "IPython", "fire", "roboflow", "boto3", "git", "pycocotools", "ninja", "pandas", "thop", "tensorboard",
    "loguru", "tabulate",
)  # fmt: skip


def main(folder: Path, photographs: list[Path]) -> None:
    _torchvision = import_torchvision()
    empty_if_missing(*_UNUSED)
    for make in (yolov5, yolox):
        torch.manual_seed(5)
        make(folder, photographs)
    print(", ".join(f"{package} {version(package)}" for package in ("yolov5", "torch")) + ", yolox 0.3.0")


def yolov5(folder: Path, photographs: list[Path]) -> None:
    from yolov5.models.yolo import DetectionModel
    from yolov5.utils.augmentations import letterbox
    from yolov5.utils.general import non_max_suppression, scale_boxes

    # Networks of chance give equal scores, and which of these comes first is left to chance as well.
    torch.Tensor.argsort = lambda scores, descending=False: torch.sort(scores, descending=descending, stable=True)[1]
    network = DetectionModel(str(home_of("yolov5") / "models" / "yolov5n.yaml")).eval()

    def fed(picture: Any) -> torch.Tensor:
        laid = letterbox(picture, SIZE, stride=32, auto=False)[0].transpose(2, 0, 1)[::-1]
        return torch.from_numpy(np.ascontiguousarray(laid)).float()[None] / 255

    pictures = torch.cat([fed(cv2.imread(str(photograph))) for photograph in photographs])
    excite(network, network.model[-1].m, 0.1, pictures)
    home, session = exported(folder / "yolov5n", FirstOutput(network))

    def found(photograph: Path, confidence: float) -> list[dict[str, Any]]:
        picture: Any = cv2.imread(str(photograph))
        answer = torch.from_numpy(session.run(None, {"images": fed(picture).numpy()})[0])
        (rows,) = non_max_suppression(answer, max(confidence, 1e-3), 0.45, None, False, max_det=1000)
        rows[:, :4] = scale_boxes((SIZE, SIZE), rows[:, :4], picture.shape)
        return told(rows[:, :4], rows[:, 4], rows[:, 5])

    save(home, "yolov5", photographs, found)


def yolox(folder: Path, photographs: list[Path]) -> None:
    from yolox.data.data_augment import preproc
    from yolox.models import YOLOPAFPN, YOLOX, YOLOXHead

    # As a whole the folder wants more than is here.
    specification = util.spec_from_file_location("demo_utils", home_of("yolox") / "utils" / "demo_utils.py")
    assert specification
    assert specification.loader
    demo: Any = util.module_from_spec(specification)
    specification.loader.exec_module(demo)
    channels = [256, 512, 1024]
    head = YOLOXHead(80, 0.25, in_channels=channels)
    network = YOLOX(YOLOPAFPN(0.33, 0.25, in_channels=channels), head).eval()
    pictures = np.stack([preproc(cv2.imread(str(photograph)), (SIZE, SIZE))[0] for photograph in photographs])
    excite(network, [*head.cls_preds, *head.obj_preds, *head.reg_preds], 0.1, torch.from_numpy(pictures))
    for decoded in (False, True):
        head.decode_in_inference = decoded
        home, session = exported(folder / ("yolox-decoded" if decoded else "yolox"), network)

        def found(photograph: Path, confidence: float, *, decoded: bool = decoded, session: Any = session) -> Any:
            pixels, gain = preproc(cv2.imread(str(photograph)), (SIZE, SIZE))
            (answer,) = session.run(None, {"images": pixels[None]})
            (rows,) = answer if decoded else demo.demo_postprocess(answer, (SIZE, SIZE))
            centres, halves = rows[:, :2], rows[:, 2:4] / 2.0
            boxes = np.concatenate([centres - halves, centres + halves], axis=1) / np.float32(gain)
            kept = demo.multiclass_nms(boxes, rows[:, 4:5] * rows[:, 5:], 0.45, max(confidence, 0.01))
            return [] if kept is None else told(kept[:, :4], kept[:, 4], kept[:, 5])

        save(home, "yolox", photographs, found)


def home_of(package: str) -> Path:
    found = util.find_spec(package)
    assert found
    assert found.origin
    return Path(found.origin).parent


class FirstOutput(torch.nn.Module):  # type: ignore[misc]  # the library is not here
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Any:
        return self.network(images)[0]


def excite(network: torch.nn.Module, last: Any, spread: float, pictures: torch.Tensor | None = None) -> None:
    """Fresh networks say the same of all. `pictures`, as they are fed: normalisation is learned of them."""
    for layer in last:
        layer.weight.data.normal_(0, spread)
        layer.bias.data.fill_(-1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and pictures is None:
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    if pictures is not None:
        with torch.no_grad():
            network(pictures)
        network.eval()


def exported(home: Path, network: torch.nn.Module) -> tuple[Path, Any]:
    graph = home / "1" / "model.onnx"
    graph.parent.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output"]}
    torch.onnx.export(network, (torch.zeros(1, 3, SIZE, SIZE),), str(graph), opset_version=12, dynamo=False, **names)
    return home, onnxruntime.InferenceSession(str(graph))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
