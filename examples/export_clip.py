"""Make a model for Fleet of a CLIP or SigLIP checkpoint: both towers, the library's files, and a model.yaml.

    python examples/export_clip.py openai/clip-vit-base-patch32 models/my-clip

Needs packages that Fleet does not: torch, transformers and onnx. The checkpoint is a name on the Hugging Face hub, or a
folder. Afterwards: fleet models check models/my-clip
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPModel, SiglipModel
from transformers import CLIPTextModelWithProjection as ClipText
from transformers import CLIPVisionModelWithProjection as ClipVision

TEXTS, PICTURES = {0: "texts", 1: "tokens"}, {0: "pictures"}


class Tower(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not among Fleet's packages
    """One output of a network, for inputs in their order."""

    def __init__(self, network: Any, inputs: Sequence[str], output: str) -> None:
        super().__init__()
        self.network, self.inputs, self.output = network, inputs, output

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = getattr(self.network(**dict(zip(self.inputs, tensors, strict=True))), self.output)
        return made


def export(network: Any, graph: Path, output: str, feeds: dict[str, torch.Tensor], free: dict[str, Any]) -> None:
    # A wrapper is made in training mode, and the exporter would leave the network in it.
    tower = Tower(network, list(feeds), output).eval()
    axes = free | {output: {0: "rows"}}
    torch.onnx.export(
        tower,
        tuple(feeds.values()),
        str(graph),
        input_names=list(feeds),
        output_names=[output],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


def main(checkpoint: str, folder: Path) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    config = AutoConfig.from_pretrained(checkpoint)
    clip = config.model_type == "clip"
    most, side = config.text_config.max_position_embeddings, config.vision_config.image_size
    pixels = {"pixel_values": torch.zeros(1, 3, side, side)}
    ids = {"input_ids": torch.ones(1, most, dtype=torch.int64)}
    if clip:
        network = CLIPModel.from_pretrained(checkpoint)
        looking, reading = ClipVision.from_pretrained(checkpoint), ClipText.from_pretrained(checkpoint)
        outputs = ("image_embeds", "text_embeds")
        ids["attention_mask"] = torch.ones(1, most, dtype=torch.int64)
    else:
        network = SiglipModel.from_pretrained(checkpoint)
        looking, reading = network.vision_model, network.text_model
        outputs = ("pooler_output", "pooler_output")
    export(looking, version / "vision.onnx", outputs[0], pixels, {"pixel_values": PICTURES})
    export(reading, version / "text.onnx", outputs[1], ids, dict.fromkeys(ids, TEXTS))
    for part in (config, AutoImageProcessor.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)):
        part.save_pretrained(version)
    bias = "" if clip else f", bias: {float(network.logit_bias.detach()):.6f}"
    scale = float(network.logit_scale.detach().exp())
    (folder / "model.yaml").write_text(
        "task: image-embedding\n"
        "lane: interactive\n"
        "batching: {max_batch_size: 32, dynamic: true}\n"
        f"pipeline:\n  zero_shot: {{scale: {scale:.6f}{bias}}}\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a model for Fleet of a CLIP or SigLIP checkpoint.")
    parser.add_argument("checkpoint")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    main(asked.checkpoint, asked.folder)
