"""Small networks of chance that make vectors of pictures and texts, as libraries have them and as graphs: imports
nothing of ours.

CLIP and SigLIP, each as two graphs and as one; DINOv2, ViT, ConvNeXt and Swin; a ViT of timm. Beside its graphs each
has its library's own files.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SIDE, PATCH, MOST = 64, 16, 64
PICTURES, ANY_SIZE = {0: "pictures"}, {0: "pictures", 2: "height", 3: "width"}
WORDS = {0: "texts", 1: "tokens"}


@dataclass(frozen=True)
class Embedder:
    """A model's folder, and how its library makes vectors."""

    home: Path
    #: From a picture to what the network is fed.
    processor: Any
    #: From that to vectors.
    features: Callable[[torch.Tensor], torch.Tensor]
    #: From texts to vectors.
    texts: Callable[[list[str]], torch.Tensor] | None = None
    #: What each of some texts scores for a picture.
    scores: Callable[[Image.Image, list[str]], list[float]] | None = None
    #: What its model.yaml has to say.
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    #: Whether texts and pictures are of one graph, which makes vectors one unit long.
    joint: bool = False
    #: Sizes at which a picture is seen, and the processor for each.
    scales: Mapping[float, Any] = field(default_factory=dict)


def two_towers(folder: Path) -> Iterator[Embedder]:
    """CLIP and SigLIP, each as two graphs and as one."""
    import transformers as hf
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    vision = {**SMALL, "image_size": SIDE, "patch_size": PATCH}
    for family in ("clip", "siglip"):
        clip = family == "clip"
        tokenizer = clip_tokenizer() if clip else siglip_tokenizer()
        ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
        text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": MOST}
        text |= {**ends, "pad_token_id": tokenizer.pad_token_id} if clip else {"pad_token_id": 1}
        torch.manual_seed(11)
        if clip:
            shared = {"projection_dim": 12}
            config = hf.CLIPConfig(text_config={**text, **shared}, vision_config={**vision, **shared}, **shared)
            network = chance(hf.CLIPModel(config))
            network.logit_scale.data.fill_(3.5)
            processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
        else:
            config = hf.SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=vision)
            network = chance(hf.SiglipModel(config))
            network.logit_scale.data.fill_(2.5)
            network.logit_bias.data.fill_(-2.0)
            processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
        joint, apart = folder / f"{family}-joint", folder / f"{family}-towers"
        masked = {"attention_mask": WORDS} if clip else {}
        outputs = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
        export(network, joint / "1" / "model.onnx", outputs, {"input_ids": WORDS, "pixel_values": PICTURES, **masked})
        if clip:
            looking, reading = hf.CLIPVisionModelWithProjection(config.vision_config), None
            looking.load_state_dict(network.state_dict(), strict=False)
            reading = hf.CLIPTextModelWithProjection(config.text_config)
            reading.load_state_dict(network.state_dict(), strict=False)
            ours, words = ["image_embeds", "last_hidden_state"], ["text_embeds", "last_hidden_state"]
        else:
            looking, reading = network.vision_model, network.text_model
            ours = words = ["last_hidden_state", "pooler_output"]
        export(looking.eval(), apart / "1" / "vision.onnx", ours, {"pixel_values": PICTURES})
        export(reading.eval(), apart / "1" / "text.onnx", words, {"input_ids": WORDS, **masked})
        padding = {"padding": True} if clip else {"padding": "max_length", "max_length": MOST, "truncation": True}
        library = Towers(network, tokenizer, processor, padding, masked=clip)
        bias = {} if clip else {"bias": float(network.logit_bias)}
        said = {"zero_shot": {"scale": float(network.logit_scale.exp()), **bias}}
        for home, pipeline in ((apart, said), (joint, {})):
            config.save_pretrained(home)
            if home is joint:
                # Both in one file, as a processor of transformers 5 writes them.
                written = {"image_processor": processor.to_dict(), "processor_class": "CLIPProcessor"}
                (home / "processor_config.json").write_text(json.dumps(written))
            else:
                processor.save_pretrained(home)
            tokenizer.save_pretrained(home)
            yield Embedder(
                home, processor, library.features, library.texts, library.scores, pipeline, joint=home is joint
            )  # fmt: skip


@dataclass(frozen=True)
class Towers:
    """Both networks of one family, and what feeds them."""

    network: Any
    tokenizer: Any
    processor: Any
    padding: Mapping[str, Any]
    #: Whether texts come with a mask, and scores are shares: CLIP.
    masked: bool

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.network.get_image_features(pixel_values=pixels).pooler_output
        return made

    def texts(self, texts: list[str]) -> torch.Tensor:
        made: torch.Tensor = self.network.get_text_features(**self._tokens(texts)).pooler_output
        return made

    def scores(self, picture: Image.Image, texts: list[str]) -> list[float]:
        pixels = torch.from_numpy(self.processor(picture, return_tensors="np")["pixel_values"])
        logits = self.network(**self._tokens(texts), pixel_values=pixels).logits_per_image[0]
        return [float(score) for score in (logits.softmax(-1) if self.masked else logits.sigmoid())]

    def _tokens(self, texts: list[str]) -> dict[str, Any]:
        asked = self.tokenizer(texts, return_tensors="pt", **self.padding)
        return {name: asked[name] for name in ("input_ids", *(["attention_mask"] if self.masked else []))}


def alone(folder: Path) -> Iterator[Embedder]:
    """Towers that only look."""
    import transformers as hf
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    levels = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    bit = BitImageProcessorPil(size={"shortest_edge": 80}, crop_size={"height": 70, "width": 70}, resample=3, **levels)
    vit = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    small = {**SMALL, "image_size": 70, "patch_size": 14}
    small.pop("intermediate_size")
    swin = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": SIDE}
    both = ["last_hidden_state", "pooler_output"]
    cases: dict[str, tuple[Any, Any, list[str], str, dict[str, Any]]] = {
        "dinov2": (hf.Dinov2Model(hf.Dinov2Config(**small)), bit, both, "pooler_output", {}),
        "dinov2-tokens": (hf.Dinov2Model(hf.Dinov2Config(**small)), bit, both[:1], "pooler_output", {}),
        "vit-cls": (
            hf.ViTModel(hf.ViTConfig(**SMALL, image_size=SIDE, patch_size=PATCH)), vit, both, "first token",
            {"output": "last_hidden_state", "pooling": "cls"},
        ),
        "vit-mean": (
            hf.ViTModel(hf.ViTConfig(**SMALL, image_size=SIDE, patch_size=PATCH)), vit, both[:1], "mean of patches",
            {"pooling": "mean-patches"},
        ),
        "convnext": (
            hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2)),
            ConvNextImageProcessorPil(size={"shortest_edge": SIDE}), both, "pooler_output", {},
        ),
        "swin": (hf.SwinModel(hf.SwinConfig(**swin)), vit, both, "pooler_output", {}),
    }  # fmt: skip
    for name, (network, processor, outputs, wanted, pipeline) in cases.items():
        home, free = folder / name, ANY_SIZE if name.startswith("dinov2") else PICTURES
        torch.manual_seed(12)
        chance(network)
        side = 70 if name.startswith("dinov2") else SIDE
        export(network, home / "1" / "model.onnx", outputs, {"pixel_values": free}, side)
        network.config.save_pretrained(home)
        processor.save_pretrained(home)

        def features(pixels: torch.Tensor, network: Any = network, wanted: str = wanted) -> torch.Tensor:
            made = network(pixels)
            hidden = made.last_hidden_state
            tokens = {"first token": lambda: hidden[:, 0], "mean of patches": lambda: hidden[:, 1:].mean(1)}
            return tokens.get(wanted, lambda: made.pooler_output)()

        scales: dict[float, Any] = {}
        if name == "dinov2":
            # What a picture becomes at 1.6 times the size: 80 * 112/70 pixels, 112 of them in the middle.
            bigger = bit.__class__(**{**bit.to_dict(), "size": {"shortest_edge": 128}, "crop_size": 112})
            scales = {1.0: processor, 1.6: bigger}
        yield Embedder(home, processor, features, pipeline=pipeline, scales=scales)


def of_timm(folder: Path) -> Iterator[Embedder]:
    import timm
    from timm.data import create_transform

    torch.manual_seed(13)
    network = chance(timm.create_model(
        "vit_tiny_patch16_224", img_size=SIDE, embed_dim=16, depth=1, num_heads=2, num_classes=0, global_pool="avg"
    ))  # fmt: skip
    levels = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    said = {"input_size": [3, SIDE, SIDE], "interpolation": "bicubic", "crop_pct": 0.9, **levels}
    transform = create_transform(**{**said, "input_size": (3, SIDE, SIDE)})

    class Processor:
        def __call__(self, picture: Image.Image, return_tensors: str) -> dict[str, Any]:
            return {"pixel_values": transform(picture)[None].numpy()}

    home = folder / "timm-vit"
    graph = home / "1" / "model.onnx"
    graph.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network, (torch.rand(2, 3, SIDE, SIDE),), str(graph), opset_version=17, dynamo=False,
        input_names=["x"], output_names=["features"], dynamic_axes={"x": PICTURES, "features": PICTURES},
    )  # fmt: skip
    (home / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": said}))
    yield Embedder(home, Processor(), network)


class Named(torch.nn.Module):  # type: ignore[misc]  # the library is not here
    """A network with tensors for inputs and outputs, in the order of `outputs`."""

    def __init__(self, network: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.network, self.inputs, self.outputs = network, inputs, outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = self.network(**dict(zip(self.inputs, tensors, strict=True)))
        if isinstance(made, torch.Tensor):
            return (made,)
        return tuple(getattr(made, name) for name in self.outputs)


def export(
    network: torch.nn.Module, graph: Path, outputs: Sequence[str], inputs: Mapping[str, Any], side: int = SIDE
) -> None:
    """`inputs` are the names of what is fed and which axes of it are free."""
    shapes = {"pixel_values": (2, 3, side, side), "input_ids": (3, MOST), "attention_mask": (3, MOST)}
    feeds = [
        torch.rand(shapes[name]) if name == "pixel_values" else torch.ones(shapes[name], dtype=torch.int64)
        for name in inputs
    ]
    free = {name: axes for name, axes in inputs.items() if axes}
    free |= {name: {0: "texts" if "text" in name else "pictures"} for name in outputs}
    graph.parent.mkdir(parents=True, exist_ok=True)
    # The exporter puts back the mode that the wrapper is in, and the network with it.
    torch.onnx.export(
        Named(network, list(inputs), outputs).eval(), tuple(feeds), str(graph), opset_version=17, dynamo=False,
        input_names=list(inputs), output_names=list(outputs), dynamic_axes=free,
    )  # fmt: skip


def chance(network: torch.nn.Module) -> torch.nn.Module:
    """Weights that give different vectors to different things, in steps of 1/32, which pack well."""
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.7 / max(1, parameter[0].numel()) ** 0.5 if parameter.dim() != 2 else 0.25)
        if parameter.dim() > 0:
            parameter.data.mul_(32).round_().div_(32)
    return network.eval()


def clip_tokenizer() -> Any:
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = [("a", "t</w>"), ("c", "at</w>"), ("o", "f</w>"), ("p", "h"), ("t", "o</w>"), ("ph", "o")]
    words = [*vocabulary, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=merges, model_max_length=MOST
    )


def siglip_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((chr(code), -4.0) for code in range(33, 127))]
    pieces += [("▁a", -1.0), ("▁photo", -1.0), ("▁of", -1.0), ("at", -1.5), ("▁cat", -1.2), ("▁coffee", -1.1)]
    made = Tokenizer(models.Unigram(pieces, unk_id=0))
    made.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(".", "")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="</s>", eos_token="</s>", unk_token="<unk>", model_max_length=MOST
    )


RANDOM_EMBEDDERS: Sequence[Callable[[Path], Iterator[Embedder]]] = (two_towers, alone, of_timm)
