"""As `reference_detection.py`, for the DETRs that their own repositories export with the post-processing in the graph.

    pip download --no-deps d-fine-project==1.0.0                           and unpack it into a folder d_fine
    python reference_detr_in_graph.py FOLDER D_FINE PHOTOGRAPH...

D-FINE's own network, and RT-DETR's by transformers, which are of one kind; both with the post-processor that the two
repositories share, exported with the names and axes of their export_onnx.py and fed as their inference does it.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image
from reference_detection import SIZE, save, small_rt, told
from unused_modules import empty_if_missing
from whole_torchvision import import_torchvision

_UNUSED = (
    "faster_coco_eval", "pycocotools", "tensorboard", "calflops", "wandb", "loguru", "gdown",
)  # fmt: skip
_NAMES = ["labels", "boxes", "scores"]


def main(folder: Path, d_fine: Path, photographs: list[Path]) -> None:
    _torchvision = import_torchvision()
    sys.path.insert(0, str(d_fine.parent))
    empty_if_missing(*_UNUSED)
    zoo = import_module(f"{d_fine.name}.zoo.dfine")
    for name, make in (("d_fine-in-graph", of_d_fine), ("rt_detr-in-graph", of_transformers)):
        torch.manual_seed(7)
        network = make(zoo, d_fine.name)
        excite(network)
        whole = Exported(network.eval(), zoo.DFINEPostProcessor(num_classes=9, num_top_queries=60).deploy())
        home = folder / name
        save(home, "d-fine-project", photographs, found_by(exported(home, whole)))
    print(f"d-fine-project 1.0.0, transformers {version('transformers')}, torch {version('torch')}")


def of_d_fine(zoo: Any, package: str) -> Any:
    backbone = import_module(f"{package}.nn.backbone.hgnetv2").HGNetv2(
        "B0", use_lab=True, return_idx=[2, 3], freeze_at=-1, freeze_norm=False, pretrained=False
    )
    sizes: dict[str, Any] = {"feat_strides": [16, 32], "hidden_dim": 64, "eval_spatial_size": [SIZE, SIZE]}
    encoder = zoo.HybridEncoder(
        in_channels=[512, 1024], use_encoder_idx=[1], dim_feedforward=128, expansion=0.34, depth_mult=0.5, **sizes
    )
    decoder = zoo.DFINETransformer(
        num_classes=9, num_queries=60, feat_channels=[64, 64], dim_feedforward=128, num_levels=2, num_layers=2,
        num_points=[4, 4], **sizes,
    )  # fmt: skip
    return zoo.DFINE(backbone, encoder, decoder).deploy()


def of_transformers(zoo: Any, package: str) -> Any:
    import transformers as hf

    return ByItsNames(hf.RTDetrForObjectDetection(small_rt(hf.RTDetrConfig)))


class ByItsNames(torch.nn.Module):  # type: ignore[misc]  # the library is not here
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        made = self.network(pixel_values=images)
        return {"pred_logits": made.logits, "pred_boxes": made.pred_boxes}


class Exported(torch.nn.Module):  # type: ignore[misc]  # the library is not here
    def __init__(self, network: Any, post_processor: Any) -> None:
        super().__init__()
        self.network, self.post_processor = network, post_processor

    def forward(self, images: torch.Tensor, orig_target_sizes: torch.Tensor) -> Any:
        return self.post_processor(self.network(images), orig_target_sizes)


def excite(network: Any) -> None:
    """Fresh ones give nearly the same to every picture."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_normal_(module.weight)
        if isinstance(module, torch.nn.Linear) and module.out_features in (4, 9):
            module.weight.data.normal_(0, 0.5)


def exported(home: Path, network: Any) -> Any:
    graph = home / "1" / "model.onnx"
    graph.parent.mkdir(parents=True, exist_ok=True)
    trial = torch.rand(1, 3, SIZE, SIZE), torch.tensor([[SIZE, SIZE]])
    free = {"images": {0: "N"}, "orig_target_sizes": {0: "N"}}
    torch.onnx.export(
        network, trial, str(graph), input_names=list(free), output_names=_NAMES, dynamic_axes=free, opset_version=16,
        dynamo=False,
    )  # fmt: skip
    return onnxruntime.InferenceSession(str(graph))


def found_by(session: Any) -> Callable[[Path, float], list[dict[str, Any]]]:
    from torchvision.transforms import Compose, Resize, ToTensor

    fed = Compose([Resize((SIZE, SIZE)), ToTensor()])

    def found(photograph: Path, confidence: float) -> list[dict[str, Any]]:
        picture = Image.open(photograph).convert("RGB")
        sizes = np.array([picture.size], np.int64)
        feeds = {"images": fed(picture)[None].numpy(), "orig_target_sizes": sizes}
        labels, boxes, scores = (value[0] for value in session.run(_NAMES, feeds))
        chosen = scores > confidence
        return told(boxes[chosen], scores[chosen], labels[chosen])

    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
