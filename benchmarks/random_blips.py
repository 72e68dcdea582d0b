"""Small BLIPs of transformers with weights of chance, and the graphs that a BLIP becomes: imports nothing of ours.

Two of them: one answers questions and has its decoder in two graphs, of which the second goes on from a cache; one
makes captions, with a decoder that is fed the whole row each time. Their graphs take no masks: nothing is filled up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]")
#: Words that questions and prompts are made of, and others that can only be said.
WORDS = (
    "what", "is", "in", "the", "picture", "a", "of", "colour", "this", "there", "how", "many", "are", "cat", "cup",
    "it", "on", *"bcdefghijklmnop",
)  # fmt: skip
POSITIONS = 24
_SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}


@dataclass(frozen=True)
class Blip:
    """Answers questions (a BlipForQuestionAnswering), makes captions (a BlipForConditionalGeneration), or both."""

    tokenizer: Any
    processor: Any
    answering: Any = None
    captioning: Any = None


def answering(home: Path) -> Blip:
    """At the size of published ones, 384 pixels in patches of 16, which become 577 tokens."""
    torch.manual_seed(21)
    tokenizer = _tokenizer()
    made = _chance(hf.BlipForQuestionAnswering(_config(tokenizer, side=384)), made_of=tokenizer)
    blip = Blip(tokenizer, _processor(384), answering=made)
    _save(home, blip, made.config)
    width = _SMALL["hidden_size"]
    _vision(made, home, 384)
    _export(
        _Encoder(made.text_encoder), home, "text_encoder", {"input_ids": "rs", "image_embeds": "rp"},
        ["question_embeds"], [_ids(), torch.rand(2, 9, width)],
    )  # fmt: skip
    first = _Decoder(made.text_decoder)
    layers = range(_SMALL["num_hidden_layers"])
    both = [
        f"{layer}.{side}.{what}" for layer in layers for side in ("decoder", "encoder") for what in ("key", "value")
    ]
    own = [name for name in both if "decoder" in name]
    seen = [_ids(), torch.rand(2, 9, width)]
    _export(
        first, home, "text_decoder", {"input_ids": "rs", "encoder_hidden_states": "rp"},
        ["logits", *(f"present.{name}" for name in both)], seen,
    )  # fmt: skip
    past = first(*seen)[1:]
    axes = {f"past_key_values.{name}": "r-t" if "decoder" in name else "r-p" for name in both}
    _export(
        _Further(made.text_decoder), home, "text_decoder_with_past", {"input_ids": "rs", **axes},
        ["logits", *(f"present.{name}" for name in own)], [_ids(), *past],
    )  # fmt: skip
    return blip


def captioning(home: Path) -> Blip:
    torch.manual_seed(22)
    tokenizer = _tokenizer()
    made = _chance(hf.BlipForConditionalGeneration(_config(tokenizer, side=64)), made_of=tokenizer)
    blip = Blip(tokenizer, _processor(64), captioning=made)
    _save(home, blip, made.config)
    _vision(made, home, 64)
    _export(
        _Decoder(made.text_decoder, cache=False), home, "text_decoder",
        {"input_ids": "rs", "encoder_hidden_states": "rp"}, ["logits"],
        [_ids(), torch.rand(2, 9, _SMALL["hidden_size"])],
    )  # fmt: skip
    return blip


class _Vision(torch.nn.Module):  # type: ignore[misc]  # the library is not here
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=pixel_values)[0]


class _Encoder(torch.nn.Module):  # type: ignore[misc]
    """float32 [rows, tokens, width] of a question that has seen the picture."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text

    def forward(self, input_ids: torch.Tensor, image_embeds: torch.Tensor) -> torch.Tensor:
        hidden = self.text.embeddings(input_ids)
        for layer in self.text.encoder.layer:
            hidden = layer(hidden, image_embeds)
        return hidden


class _Decoder(torch.nn.Module):  # type: ignore[misc]
    """The first pass: logits, and of each layer the keys and values of the text and of what it looks at."""

    def __init__(self, decoder: Any, *, cache: bool = True) -> None:
        super().__init__()
        self.decoder, self.cache = decoder, cache

    def forward(self, input_ids: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = hf.EncoderDecoderCache(hf.DynamicCache(), hf.DynamicCache())
        logits = _passed(self.decoder, input_ids, 0, states, cache)
        return (logits, *_of(cache.self_attention_cache, cache.cross_attention_cache)) if self.cache else (logits,)


class _Further(torch.nn.Module):  # type: ignore[misc]
    """A further pass: logits of the new tokens, and of each layer the keys and values of the text with them."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        text, seen = hf.DynamicCache(), hf.DynamicCache()
        for layer, at in enumerate(range(0, len(past), 4)):
            text.update(past[at], past[at + 1], layer)
            seen.update(past[at + 2], past[at + 3], layer)
        cache = hf.EncoderDecoderCache(text, seen)
        # What is looked at is in the cache: of the states only that there are some is asked.
        logits = _passed(self.decoder, input_ids, past[0].shape[2], past[2], cache)
        return (logits, *_of(cache.self_attention_cache))


def _passed(decoder: Any, ids: torch.Tensor, before: Any, states: torch.Tensor, cache: Any) -> torch.Tensor:
    """`before`: tokens of the cache."""
    places = torch.arange(before + ids.shape[1])
    new = places[before:]
    mask = torch.where(places[None] <= new[:, None], 0.0, torch.finfo(torch.float32).min)
    hidden = decoder.bert.embeddings(ids, position_ids=new[None])
    for layer in decoder.bert.encoder.layer:
        hidden = layer(hidden, states, attention_mask=mask, past_key_values=cache)
    return decoder.cls(hidden)


def _of(*caches: Any) -> list[torch.Tensor]:
    """Layer by layer, of each cache its keys and values."""
    return [part for layers in zip(*(cache.layers for cache in caches), strict=True)
            for layer in layers for part in (layer.keys, layer.values)]  # fmt: skip


def _tokenizer() -> Any:
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate((*SPECIAL, *WORDS))}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        bos_token="[DEC]",
    )  # fmt: skip


def _processor(side: int) -> Any:
    """That on Pillow: the one on torchvision differs by a grey level here and there."""
    return hf.BlipImageProcessorPil(size={"height": side, "width": side})


def _config(tokenizer: Any, side: int) -> Any:
    number = tokenizer.convert_tokens_to_ids
    text = {
        **_SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": POSITIONS, "bos_token_id": number("[DEC]"),
        "sep_token_id": number("[SEP]"), "pad_token_id": number("[PAD]"), "encoder_hidden_size": _SMALL["hidden_size"],
    }  # fmt: skip
    return hf.BlipConfig(text_config=text, vision_config={**_SMALL, "image_size": side, "patch_size": 16})


def _chance(network: Any, made_of: Any) -> Any:
    """Weights by which it says different things of different pictures, of words alone, and comes to an end."""
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            # What is looked at would drown what was said.
            parameter.data.normal_(0, 0.1 if "crossattention.output" in name else 0.4)
    words = network.text_decoder.cls.predictions.decoder
    # With those that are read, it would say each word again and again.
    words.weight = torch.nn.Parameter(torch.randn_like(words.weight) * 0.4)
    words.bias.data[: len(SPECIAL)] = -1e4
    words.bias.data[made_of.convert_tokens_to_ids("[SEP]")] = 1.8
    return network.eval()


def _ids() -> torch.Tensor:
    return torch.tensor([[4, 6, 7], [4, 8, 9]])


def _vision(network: Any, home: Path, side: int) -> None:
    pixels = torch.rand(2, 3, side, side)
    _export(_Vision(network.vision_model), home, "vision_encoder", {"pixel_values": "r"}, ["image_embeds"], [pixels])


def _save(home: Path, blip: Blip, config: Any) -> None:
    config.save_pretrained(home / "1")
    blip.processor.save_pretrained(home / "1")
    blip.tokenizer.save_pretrained(home / "1")


def _export(
    network: torch.nn.Module, home: Path, graph: str, inputs: dict[str, str], outputs: Sequence[str],
    given: Sequence[torch.Tensor],
) -> None:  # fmt: skip
    """`inputs`: for each axis that is free its letter, `-` for one that is not."""
    free = {name: {axis: letter for axis, letter in enumerate(axes) if letter != "-"} for name, axes in inputs.items()}
    free |= {name: {0: "r", (2 if name.startswith("present") else 1): f"{name} tokens"} for name in outputs}
    with torch.inference_mode():
        torch.onnx.export(
            network.eval(), tuple(given), str(home / "1" / f"{graph}.onnx"), opset_version=17, dynamo=False,
            input_names=list(inputs), output_names=list(outputs), dynamic_axes=free,
        )  # fmt: skip


RANDOM_BLIPS: dict[str, Callable[[Path], Blip]] = {"blip-answers": answering, "blip-captions": captioning}
