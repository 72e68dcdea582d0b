"""What the libraries make of pictures and texts, for `parity_image_embedding.py`: imports nothing of ours.

    python benchmarks/reference_image_embedding.py FOLDER PHOTOGRAPH... [--goldens]

Run with a Python that has transformers 5.23, timm 1.0 and PyTorch. Writes for each family a model's folder: graphs that
PyTorch exported, small networks with weights of chance; the library's own files; and `reference.json` with what the
library answers. `--goldens` also packs tests/support/image_embedding_goldens.zip from photographs of this repository.
"""

import argparse
import json
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from random_embedders import RANDOM_EMBEDDERS, Embedder
from whole_torchvision import import_torchvision

ROOT = Path(__file__).resolve().parents[1]
GOLDENS = ROOT / "tests" / "support" / "image_embedding_goldens.zip"
TEXTS = ["a cat on a sofa", "Two cups of coffee!", "x", "the QUICK brown fox, seen from above; 42 times", "a  b"]
LABELS = ["cat", "cup of coffee", "city at night"]
#: As transformers' pipeline for it has it.
TEMPLATE = "This is a photo of {}."
#: One of each way to read a graph.
_PACKED = ("clip-joint", "clip-towers", "siglip-towers", "dinov2", "vit-cls", "convnext", "timm-vit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--goldens", action="store_true")
    given = parser.parse_args()
    _torchvision = import_torchvision()
    for make in RANDOM_EMBEDDERS:
        for embedder in make(given.folder):
            said = asked(embedder, given.photographs)
            (embedder.home / "reference.json").write_text(json.dumps(said))
    if given.goldens:
        pack(given.folder)
    print(", ".join(f"{package} {version(package)}" for package in ("transformers", "timm", "torch")))


def asked(embedder: Embedder, photographs: list[Path]) -> dict[str, Any]:
    """Vectors as the library has them, of a joint graph one unit long as that makes them."""
    said: dict[str, Any] = {"pipeline": embedder.pipeline, "joint": embedder.joint, "pictures": {}, "scores": {}}
    with torch.no_grad():
        for photograph in photographs:
            picture = Image.open(photograph).convert("RGB")
            said["pictures"][photograph.name] = seen(embedder, picture)
            if embedder.scores:
                labels = [TEMPLATE.format(label) for label in LABELS]
                said["scores"][photograph.name] = embedder.scores(picture, labels)
        if embedder.texts:
            made = embedder.texts(TEXTS)
            said |= {"texts": TEXTS, "text_vectors": (unit(made) if embedder.joint else made).tolist()}
            said |= {"labels": LABELS, "template": TEMPLATE}
    said["scales"] = list(embedder.scales) or None
    return said


def seen(embedder: Embedder, picture: Image.Image) -> dict[str, Any]:
    """One picture: as it is, with its mirror image, and at several sizes."""
    plain = vector(embedder, picture, embedder.processor)
    own = {"vector": (unit(plain) if embedder.joint else plain).tolist(), "flip": None}
    kind = type(embedder.processor).__name__
    if kind.startswith("Siglip") or "ViT" in kind:
        # Where nothing is cut off, the mirror image is resized to the mirrored pixels.
        flipped = vector(embedder, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), embedder.processor)
        own["flip"] = unit(unit(plain) + unit(flipped)).tolist()
    if embedder.scales:
        each = [unit(vector(embedder, picture, processor)) for processor in embedder.scales.values()]
        own["scaled"] = unit(torch.stack(each).sum(0)).tolist()
    return own


def vector(embedder: Embedder, picture: Image.Image, processor: Any) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(processor(picture, return_tensors="np")["pixel_values"]))
    return embedder.features(pixels)[0].flatten()


def unit(values: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(values, dim=-1)


def pack(folder: Path) -> None:
    with zipfile.ZipFile(GOLDENS, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.relative_to(folder).parts[0] in _PACKED and path.name != "model.yaml":
                # Of one time, so that the same content makes the same file.
                entry = zipfile.ZipInfo(str(path.relative_to(folder)), (2026, 1, 1, 0, 0, 0))
                content = path.read_bytes() if path.suffix != ".onnx" else bare(path)
                packed.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    print(f"{GOLDENS.name}: {GOLDENS.stat().st_size:,} bytes")


def bare(graph: Path) -> bytes:
    """Without what only people read."""
    import onnx

    model = onnx.load(graph)
    for node in model.graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
