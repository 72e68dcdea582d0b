"""Makes tests/support/preprocess_goldens.json: what transformers, timm and ultralytics feed a network, at some places.

    python benchmarks/golden_preprocess.py

Run with a Python that has transformers 5.23, timm 1.0, ultralytics 8.4, PyTorch and torchvision; imports nothing of
ours. Of transformers the processors that work on Pillow are asked. Each configuration is written to a file and read
back as `from_pretrained` does, so that what a file leaves out is filled in by the library itself.
"""

import importlib
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from whole_torchvision import import_torchvision

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "models" / "efficientnet-lite0" / "example" / "cat.jpg"
OUT = ROOT / "tests" / "support" / "preprocess_goldens.json"
#: (left, top, right, bottom) of the photograph: whole, upright, smaller than what is cropped, an odd sliver.
BOXES = [(0, 0, 451, 300), (150, 40, 271, 299), (200, 100, 233, 151), (0, 90, 449, 121)]
PLACES = 24
LEVELS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
LITE = {"image_mean": [0.4785, 0.4753, 0.4743], "image_std": [0.4785, 0.4733, 0.4743]}
#: What published checkpoints say, and what the classes do by themselves.
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {"image_processor_type": "ViTImageProcessor"},
    "vit-old": {"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 2, "image_mean": [0.5] * 3},
    "swin": {"image_processor_type": "ViTImageProcessor", "resample": 3, **IMAGENET},
    "deit": {"image_processor_type": "DeiTImageProcessor", **IMAGENET},
    "beit": {"image_processor_type": "BeitImageProcessor", "size": {"height": 224, "width": 224}},
    "convnext-224": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, **IMAGENET},
    "convnext-384": {"image_processor_type": "ConvNextImageProcessor"},
    "resnet": {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875, **IMAGENET},
    "efficientnet": {"image_processor_type": "EfficientNetImageProcessor", "resample": 0, **LITE},
    "efficientnet-embedding": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 64, "width": 80},
        "include_top": False,
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "do_normalize": False,
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        **IMAGENET,
    },
    "clip": {"image_processor_type": "CLIPImageProcessor"},
    "clip-old": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224},
    "siglip": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 256, "width": 256}},
    "levit": {"image_processor_type": "LevitImageProcessor"},
    "poolformer": {"image_processor_type": "PoolFormerImageProcessor"},
    "pvt": {"image_processor_type": "PvtImageProcessor"},
    "mobilenet-v1": {"image_processor_type": "MobileNetV1ImageProcessor"},
    "mobilenet-v2": {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "size": {"shortest_edge": 97},
        "crop_size": 90,
    },
    "mobilevit": {"image_processor_type": "MobileViTImageProcessor"},
}
TIMM: dict[str, dict[str, Any]] = {
    "timm-center": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, **LEVELS},
    "timm-bilinear": {"input_size": [3, 299, 299], "interpolation": "bilinear", "crop_pct": 0.9, **LEVELS},
    "timm-squash": {
        "input_size": [3, 200, 200],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "squash",
        **LEVELS,
    },
}
MODULES = {
    "ConvNext": "convnext", "EfficientNet": "efficientnet", "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2", "MobileViT": "mobilevit", "PoolFormer": "poolformer",
}  # fmt: skip


def processor(config: dict[str, Any]) -> Any:
    """The library's own, as it reads the file."""
    written = config.get("image_processor_type") or config["feature_extractor_type"]
    family = written.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    module = MODULES.get(family, family.lower())
    found = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(config))
        return getattr(found, f"{family}ImageProcessorPil").from_pretrained(folder)


def transforms() -> Iterator[tuple[str, Callable[[Image.Image], Any]]]:
    """Of timm and ultralytics: from a picture to a tensor."""
    from timm.data import create_transform
    from ultralytics.data.augment import classify_transforms

    for name, config in TIMM.items():
        yield name, create_transform(**{**config, "input_size": tuple(config["input_size"])})
    yield "ultralytics", classify_transforms(224)


def main() -> None:
    _torchvision = import_torchvision()
    picture = Image.open(PICTURE).convert("RGB")
    cases = []
    asked = [(name, processor(config)) for name, config in CONFIGS.items()]
    ways = [(name, lambda part, made=made: made(part, return_tensors="np")["pixel_values"][0]) for name, made in asked]
    for name, way in [*ways, *transforms()]:
        for box in BOXES:
            values = np.asarray(way(picture.crop(box)))
            dice = random.Random(f"{name}{box}")
            at = [[dice.randrange(side) for side in values.shape] for _ in range(PLACES)]
            cases.append(
                {
                    "name": name,
                    "box": box,
                    "shape": values.shape,
                    "mean": float(values.mean(dtype=np.float64)),
                    "at": at,
                    "values": [float(values[tuple(place)]) for place in at],
                }
            )
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    OUT.write_text(f'{{"configs": {json.dumps(CONFIGS)},\n"timm": {json.dumps(TIMM)},\n"cases": [\n{rows}\n]}}\n')
    print(f"{len(cases)} cases, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
