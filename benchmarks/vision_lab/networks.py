"""The rows of the benchmark: model folders of this run, and what is asked of each."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from parity_embeddings import ROOT, complete
from PIL import Image

from vision_lab.graphs import save_stand_in_detector, save_vit

#: As many runs at once as there are cores.
_JOINED = {"batching": {"max_batch_size": 32, "dynamic": True, "instances": 0}}
NAMES = ("yolo", "lite", "vit", "vqa")


@dataclass(frozen=True)
class Network:
    #: One of NAMES; also that of its model.
    name: str
    #: For people.
    title: str
    folder: Path
    picture: Path
    params: dict[str, Any] = field(default_factory=dict)
    #: What ultralytics, transformers or timm is asked for; empty where there is nothing to compare with.
    library: str = ""


def networks(chosen: list[str], work: Path, picture: Path, yolo: Path | None) -> list[Network]:
    """Writes their folders below `work`/models. Those that this checkout lacks are left out, and it is said why."""
    shelf = work / "models"
    made = []
    if "yolo" in chosen:
        made.append(_yolo(shelf / "yolo", picture, yolo))
    if "lite" in chosen:
        folder = _copied(complete(ROOT / "models" / "efficientnet-lite0"), shelf / "lite")
        made.append(Network("lite", "EfficientNet-Lite0", folder, picture, library="timm"))
    if "vit" in chosen:
        folder = shelf / "vit"
        save_vit(folder / "1" / "model.onnx")
        levels = {"mean": [0.5] * 3, "std": [0.5] * 3}
        recipe = {"resize": "stretch", "size": 224, "kernel": "bilinear", **levels}
        _say(folder, {"task": "image-classification", **_JOINED, "pipeline": {"preprocess": recipe}})
        made.append(Network("vit", "ViT-B/16, weights of chance", folder, picture, library="transformers"))
    if "vqa" in chosen:
        source = ROOT / "models" / "shapes-vqa"
        if source.is_dir():
            shape = next((source / "example").glob("*.png"))
            asked = {"question": "what is in the image?"}
            made.append(Network("vqa", "shapes-vqa", _copied(source, shelf / "vqa"), shape, asked))
        else:
            print("shapes-vqa: left out, there is no models/shapes-vqa")
    return made


def _yolo(folder: Path, picture: Path, given: Path | None) -> Network:
    graph = folder / "1" / "model.onnx"
    if given is None:
        save_stand_in_detector(graph)
        title, library = "stand-in for YOLO11n (no --yolo)", ""
    else:
        graph.parent.mkdir(parents=True)
        shutil.copyfile(given, graph)
        title, library = f"YOLO at 640, {given.name}", "ultralytics"
    _say(folder, {"task": "object-detection", "pipeline": {"confidence": 0.6}})
    return Network("yolo", title, folder, picture, library=library)


def _say(folder: Path, said: dict[str, Any]) -> None:
    (folder / "model.yaml").write_text(json.dumps({"lane": "interactive", **said}), "utf-8")


def _copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def photograph(path: Path) -> Path:
    """Writes a JPEG of a megapixel: the repository's photographs side by side, in their own grain."""
    sources = [
        ROOT / "models" / name for name in ("centerface/example/astronaut.jpg", "efficientnet-lite0/example/coffee.jpg")
    ]
    whole = np.zeros((1024, 1024, 3), np.uint8)
    for row in range(2):
        for column in range(2):
            tile = Image.open(sources[(row + column) % 2]).convert("RGB")
            # The middle, and what is too small at the edge is mirrored rather than enlarged.
            part = np.asarray(tile)[:512, :512]
            part = np.pad(part, ((0, 512 - part.shape[0]), (0, 512 - part.shape[1]), (0, 0)), mode="reflect")
            whole[512 * row : 512 * (row + 1), 512 * column : 512 * (column + 1)] = part
    Image.fromarray(whole).save(path, "JPEG", quality=90)
    return path
