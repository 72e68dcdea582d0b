"""What the libraries find, for `parity_detection.py`: run with a Python that has them, imports nothing of ours.

    python reference_detection.py FOLDER PHOTOGRAPH...

Writes for every network that can be had without a download: a graph exported by its library, with weights of chance
that were made to find something, and beside it what the library finds with that very graph in each photograph.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from whole_torchvision import import_torchvision

#: Boxes of a photograph, as `told`, with a score above a threshold.
Finding = Callable[[Path, float], list[dict[str, Any]]]
SIZE = 640
_FOUND = 60
#: Name -> (configuration, arguments of the export).
YOLOS: dict[str, tuple[str, dict[str, Any]]] = {
    "yolov5nu": ("yolov5n.yaml", {}),
    "yolov8n": ("yolov8n.yaml", {}),
    "yolov8n-free": ("yolov8n.yaml", {"dynamic": True}),
    "yolov8n-nms": ("yolov8n.yaml", {"nms": True, "conf": 0.05}),
    "yolov9t": ("yolov9t.yaml", {}),
    "yolov10n": ("yolov10n.yaml", {}),
    "yolov10n-e2e": ("yolov10n.yaml", {"nms": False}),
    "yolo11n": ("yolo11n.yaml", {}),
    "yolo12n": ("yolo12n.yaml", {}),
    "yolo26n": ("yolo26n.yaml", {}),
    "yolo26n-e2e": ("yolo26n.yaml", {"nms": False}),
    "rtdetr-l": ("rtdetr-l.yaml", {}),
}


def main(folder: Path, photographs: list[Path]) -> None:
    _torchvision = import_torchvision()
    for name, (configuration, arguments) in YOLOS.items():
        yolo(folder, name, configuration, arguments, photographs)
    for name in ("rt_detr", "d_fine", "detr", "yolos"):
        transformer(folder, name, photographs)
    packages = ("ultralytics", "transformers", "torch", "onnxruntime")
    print(", ".join(f"{package} {version(package)}" for package in packages))


def yolo(folder: Path, name: str, configuration: str, arguments: dict[str, Any], photographs: list[Path]) -> None:
    from ultralytics import RTDETR, YOLO

    torch.manual_seed(7)
    kind = RTDETR if configuration.startswith("rtdetr") else YOLO
    made = kind(configuration)
    excite(made.model)
    # The name of the export is that of the checkpoint.
    made.ckpt_path = str(folder / f"{name}.pt")
    made.model.pt_path = made.ckpt_path
    written = Path(made.export(format="onnx", imgsz=SIZE, simplify=False, device="cpu", **arguments))
    graph = place(folder, name, written)
    library = kind(str(graph), **({"task": "detect"} if kind is YOLO else {}))

    def found(photograph: Path, confidence: float) -> list[dict[str, Any]]:
        (result,) = library.predict(str(photograph), conf=confidence, verbose=False, device="cpu")
        return told(result.boxes.xyxy, result.boxes.conf, result.boxes.cls)

    save(graph.parents[1], "ultralytics", photographs, found)


def excite(network: torch.nn.Module) -> None:
    """Fresh heads find nothing: here their scores are spread, so that some classes are found somewhere."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
    head = network.model[-1]
    for part in ("cv3", "one2one_cv3"):
        for level in getattr(head, part, None) or ():
            level[-1].weight.data.normal_(0, 3)
            level[-1].bias.data.fill_(-3)
    for part in ("cv2", "one2one_cv2"):
        for level in getattr(head, part, None) or ():
            level[-1].weight.data.normal_(0, 1)
    for level in getattr(head, "dec_score_head", None) or ():
        level.weight.data.normal_(0, 0.3)
        level.bias.data.fill_(-2.5)


def transformer(folder: Path, name: str, photographs: list[Path]) -> None:
    import transformers as hf
    from PIL import Image

    torch.manual_seed(7)
    network, processor = {
        "rt_detr": lambda: (hf.RTDetrForObjectDetection(small_rt(hf.RTDetrConfig)), processing("rt_detr", "RTDetr")),
        "d_fine": lambda: (hf.DFineForObjectDetection(small_rt(hf.DFineConfig)), processing("rt_detr", "RTDetr")),
        "detr": lambda: (hf.DetrForObjectDetection(small_detr()), processing("detr", "Detr")),
        "yolos": lambda: (
            hf.YolosForObjectDetection(
                hf.YolosConfig(
                    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
                    image_size=[512, 864], num_detection_tokens=100, num_labels=6,
                )
            ),
            processing("yolos", "Yolos"),
        ),
    }[name]()  # fmt: skip
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_normal_(module.weight)
        if isinstance(module, torch.nn.Linear) and module.out_features in (4, network.config.num_labels):
            module.weight.data.normal_(0, 0.5)
    home = folder / name
    (home / "1").mkdir(parents=True, exist_ok=True)
    network.config.save_pretrained(home)
    processor.save_pretrained(home)
    fixed = name in ("rt_detr", "d_fine")
    trial = torch.zeros(1, 3, SIZE, SIZE)
    graph = home / "1" / "model.onnx"
    free = {0: "pictures"} if fixed else {0: "pictures", 2: "height", 3: "width"}
    torch.onnx.export(
        Raw(network), (trial,), str(graph), opset_version=17, dynamo=False, input_names=["pixel_values"],
        output_names=["logits", "pred_boxes"], dynamic_axes={"pixel_values": free, "logits": {0: "pictures"},
        "pred_boxes": {0: "pictures"}},
    )  # fmt: skip
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph))

    def answer(photograph: Path, confidence: float) -> list[dict[str, Any]]:
        picture = Image.open(photograph).convert("RGB")
        pixels = processor(picture, return_tensors="np")["pixel_values"]
        logits, boxes = (torch.from_numpy(value) for value in session.run(None, {"pixel_values": pixels}))
        outputs = hf.models.detr.modeling_detr.DetrObjectDetectionOutput(logits=logits, pred_boxes=boxes)
        sizes = [picture.size[::-1]]
        (found,) = processor.post_process_object_detection(outputs, confidence, sizes)
        return told(found["boxes"], found["scores"], found["labels"])

    save(home, "transformers", photographs, answer)


def processing(module: str, prefix: str) -> Any:
    """The image processor that works on Pillow: that on torchvision, transformers 5's default, differs by a level."""
    found = import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return getattr(found, f"{prefix}ImageProcessorPil")()


class Raw(torch.nn.Module):  # type: ignore[misc]  # the library is not here
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = self.network(pixel_values=pixel_values)
        return made.logits, made.pred_boxes


def small_rt(configuration: Any) -> Any:
    return configuration(
        d_model=32, encoder_hidden_dim=32, encoder_ffn_dim=64, decoder_ffn_dim=64, decoder_layers=2, encoder_layers=1,
        decoder_in_channels=[32, 32, 32], encoder_in_channels=[64, 128, 256], num_queries=60, num_labels=9,
        decoder_attention_heads=4, encoder_attention_heads=4,
        backbone_config=dict(
            model_type="rt_detr_resnet" if configuration.__name__ == "RTDetrConfig" else "hgnet_v2",
            embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1], out_features=["stage2", "stage3",
            "stage4"],
            **({} if configuration.__name__ == "RTDetrConfig" else HGNET),
        ),
    )  # fmt: skip


HGNET = {
    "stage_in_channels": [32, 32, 64, 128],
    "stage_mid_channels": [16, 16, 32, 32],
    "stage_out_channels": [32, 64, 128, 256],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 5, 5],
    "stage_numb_of_layers": [2, 2, 2, 2],
    "stem_channels": [3, 16, 32],
}


def small_detr() -> Any:
    import transformers as hf

    backbone = hf.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 32, 64], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    return hf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=32,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, num_queries=100, num_labels=7,
    )  # fmt: skip


def place(folder: Path, name: str, written: Path) -> Path:
    graph = folder / name / "1" / "model.onnx"
    graph.parent.mkdir(parents=True, exist_ok=True)
    written.rename(graph)
    return graph


def told(boxes: Any, scores: Any, classes: Any) -> list[dict[str, Any]]:
    rows = zip(np.asarray(boxes), np.asarray(scores), np.asarray(classes), strict=True)
    return [{"box": [float(v) for v in box], "score": float(score), "class": int(one)} for box, score, one in rows]


def save(home: Path, library: str, photographs: list[Path], found: Finding) -> None:
    """With a threshold that leaves about `_FOUND` boxes a photograph: chance does not care for the usual one."""
    scores = sorted(one["score"] for photograph in photographs for one in found(photograph, 1e-6))
    place = max(len(scores) - _FOUND * len(photographs), 0)
    gaps = [at for at in range(1, len(scores)) if scores[at] - scores[at - 1] > 1e-6]
    # Where all have the same score, all are found.
    apart = min(gaps, key=lambda at: abs(at - place), default=None) if place else None
    confidence = (scores[apart - 1] + scores[apart]) / 2 if apart is not None else 1e-6
    save_above(confidence, home, library, photographs, found)


def save_above(
    confidence: float, home: Path, library: str, photographs: list[Path], found: Finding,
    params: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """`params`: what Fleet is asked for besides."""
    answers = {photograph.name: found(photograph, confidence) for photograph in photographs}
    said = {"library": library, "confidence": confidence, "params": params or {}, "answers": answers}
    (home / "reference.json").write_text(json.dumps(said), "utf-8")
    print(home.name, f"{confidence:.4g}", {name: len(answer) for name, answer in answers.items()}, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
