"""What the libraries answer, for `parity_classification.py`: run with a Python that has them, imports nothing of ours.

    python reference_classification.py FOLDER PHOTOGRAPH...

Writes for each family a model's folder: a graph that PyTorch exported, of a small network with weights of chance; the
library's own files beside it; and `reference.json` with what the library itself makes of each photograph, from the file
to the numbers before softmax (of ultralytics, whose networks end in it, the shares).
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
from PIL import Image
from whole_torchvision import import_torchvision

CLASSES = 37
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
#: Name -> (module of transformers, its prefix, that of its image processor, what is said to the configuration).
FAMILIES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "vit": ("vit", "ViT", "ViT", SMALL),
    "deit": ("deit", "DeiT", "DeiT", SMALL),
    "beit": ("beit", "Beit", "Beit", {**SMALL, "image_size": 224, "use_mask_token": False}),
    "swin": ("swin", "Swin", "ViT", {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2]}),
    "convnext": ("convnext", "ConvNext", "ConvNext", {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}),
    "resnet": (
        "resnet",
        "ResNet",
        "ConvNext",
        {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    ),
    "efficientnet": ("efficientnet", "EfficientNet", "EfficientNet", {"width_coefficient": 0.25, "hidden_dim": 320}),
    "mobilenet-v2": ("mobilenet_v2", "MobileNetV2", "MobileNetV2", {"depth_multiplier": 0.35}),
}
TIMM = ("tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224")
Answer = Callable[[Image.Image], Any]


class Logits(torch.nn.Module):  # type: ignore[misc]  # the library is not here
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        made = self.network(pixel_values)
        return made if isinstance(made, torch.Tensor) else made.logits


def main(folder: Path, photographs: list[Path]) -> None:
    _torchvision = import_torchvision()
    for name, family in FAMILIES.items():
        by_transformers(folder / name, photographs, *family)
    for name in TIMM:
        by_timm(folder / f"timm-{name}", photographs, name)
    by_ultralytics(folder / "yolo11n-cls", photographs)
    packages = ("transformers", "timm", "ultralytics", "torch")
    print(", ".join(f"{package} {version(package)}" for package in packages))


def by_transformers(
    home: Path, photographs: list[Path], module: str, prefix: str, processing: str, said: dict[str, Any]
) -> None:
    import transformers as hf

    config = getattr(hf, f"{prefix}Config")(num_labels=CLASSES, **said)
    network = chance(getattr(hf, f"{prefix}ForImageClassification")(config))
    family = {"ConvNext": "convnext", "EfficientNet": "efficientnet", "MobileNetV2": "mobilenet_v2"}.get(
        processing, processing.lower()
    )
    # Those that work on Pillow: torchvision's differ by a grey level here and there.
    found = import_module(f"transformers.models.{family}.image_processing_pil_{family}")
    processor = getattr(found, f"{processing}ImageProcessorPil")()
    (home / "1").mkdir(parents=True, exist_ok=True)
    config.save_pretrained(home / "1")
    processor.save_pretrained(home / "1")

    def prepared(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(processor(picture, return_tensors="np")["pixel_values"]))

    answered(home, network, photographs, prepared)


def by_timm(home: Path, photographs: list[Path], name: str) -> None:
    import timm

    network = chance(timm.create_model(name, pretrained=False, num_classes=CLASSES))
    config = timm.data.resolve_model_data_config(network)
    prepare = timm.data.create_transform(**config)
    (home / "1").mkdir(parents=True, exist_ok=True)
    told = {"architecture": name, "num_classes": CLASSES, "pretrained_cfg": config}
    (home / "1" / "config.json").write_text(json.dumps(told), "utf-8")
    answered(home, network, photographs, lambda picture: prepare(picture)[None])


def by_ultralytics(home: Path, photographs: list[Path]) -> None:
    from ultralytics import YOLO
    from ultralytics.data.augment import classify_transforms

    torch.manual_seed(7)
    made = YOLO("yolo11n-cls.yaml")
    chance(made.model)
    prepare = classify_transforms(224)
    settled(made.model, torch.stack([prepare(Image.open(photograph).convert("RGB")) for photograph in photographs]))
    home.mkdir(parents=True, exist_ok=True)
    made.ckpt_path = made.model.pt_path = str(home / "yolo11n-cls.pt")
    written = Path(made.export(format="onnx", imgsz=224, simplify=False, device="cpu"))
    graph = home / "1" / "model.onnx"
    graph.parent.mkdir(exist_ok=True)
    written.rename(graph)
    library = YOLO(str(graph), task="classify")

    def answer(photograph: Path) -> list[float]:
        (result,) = library.predict(str(photograph), imgsz=224, verbose=False, device="cpu")
        return [float(value) for value in result.probs.data]

    save(home, "ultralytics", {photograph.name: answer(photograph) for photograph in photographs})


def chance(network: torch.nn.Module) -> torch.nn.Module:
    """Weights by which different pictures get different answers: what libraries begin with says the same of all."""
    torch.manual_seed(7)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter.view(len(parameter), -1) if parameter.dim() != 4 else parameter)
    return network.eval()


def settled(network: torch.nn.Module, pictures: torch.Tensor) -> None:
    """What batch normalisation would have learned of these pictures: else numbers vanish on their way, or explode."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    with torch.no_grad():
        network(pictures)
    network.eval()


def answered(
    home: Path, network: torch.nn.Module, photographs: list[Path], prepared: Callable[[Image.Image], torch.Tensor]
) -> None:
    pictures = {photograph.name: prepared(Image.open(photograph).convert("RGB")) for photograph in photographs}
    wrapped = Logits(network).eval()
    settled(wrapped, torch.cat(list(pictures.values())))
    with torch.inference_mode():
        answers = {name: wrapped(pixels)[0].tolist() for name, pixels in pictures.items()}
    torch.onnx.export(
        wrapped, (next(iter(pictures.values())),), str(home / "1" / "model.onnx"), opset_version=17, dynamo=False,
        input_names=["pixel_values"], output_names=["logits"],
        dynamic_axes={"pixel_values": {0: "pictures"}, "logits": {0: "pictures"}},
    )  # fmt: skip
    save(home, "timm" if home.name.startswith("timm") else "transformers", answers)


def save(home: Path, library: str, answers: dict[str, list[float]]) -> None:
    rows = np.array(list(answers.values()))
    if np.ptp(rows, axis=0).max() < 0.01 * np.abs(rows).max():
        raise SystemExit(f"{home.name} answers the same to all photographs: there is nothing to compare")
    (home / "reference.json").write_text(json.dumps({"library": library, "answers": answers}), "utf-8")
    print(home.name, {name: int(np.argmax(answer)) for name, answer in answers.items()}, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
