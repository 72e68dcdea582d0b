"""Asks transformers what the model that ships answers: its weights, taken out of the graphs, in transformers' own BLIP.

    PYTHON benchmarks/reference_visual_qa.py > tests/support/visual_qa_goldens.json

PYTHON is one with torch, transformers 5.23 and onnx; nothing of Fleet is imported. One question at a time, without
filling: in a batch transformers' BLIP looks at what fills up short questions, too.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
)

FOLDER = Path(__file__).resolve().parents[1] / "models" / "shapes-vqa"
#: Beside the samples' own questions: some that nobody should ask, of different lengths.
QUESTIONS = (
    "what is a dog doing?",
    "blue?",
    "describe the picture and the circle in the image, and the shape of the rectangle",
    "is it not what it is, or is it what it is not?",
)
PROMPTS = ("", "a picture of", "this is", "an image of a", "the blue", "there is no")
BEAMS = (1, 3, 5)
NEW_TOKENS = 12
PICTURES = 10


def weights(graph: str) -> dict[str, torch.Tensor]:
    """By their names in the module that was exported; those of matrices lost theirs, and are found by their biases."""
    made = onnx.load(FOLDER / "1" / f"{graph}.onnx").graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.initializer}
    products = {node.output[0]: node for node in made.node if node.op_type == "MatMul"}
    own = (name for name in tensors if name.startswith("m.") and not name.endswith("position_ids"))
    found = {name: tensors[name] for name in own}
    for node in made.node:
        if node.op_type == "Gemm":
            _, matrix, bias = node.input
            turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            found[bias.replace(".bias", ".weight")] = tensors[matrix] if turned else tensors[matrix].T
        elif node.op_type == "Add":
            for product, bias in (node.input, reversed(node.input)):
                if product in products and bias.endswith(".bias") and products[product].input[1] in tensors:
                    found[bias.replace(".bias", ".weight")] = tensors[products[product].input[1]].T
    return {name.removeprefix("m."): torch.from_numpy(np.array(values)) for name, values in found.items()}


def filled(module: torch.nn.Module, found: dict[str, torch.Tensor]) -> None:
    """Refuses weights that are left over, and lacks; what is tied or made by itself is not in the graph."""
    lacks, left = module.load_state_dict(found, strict=False)
    tied = {"embeddings.position_embedding", "bert.embeddings.word_embeddings.weight", "embeddings.position_ids"}
    lacks = [name for name in lacks if name not in tied and not name.endswith(("position_ids", "predictions.bias"))]
    if lacks or left:
        raise SystemExit(f"missing: {lacks}; left over: {left}")


def restored(kind: Any, config: BlipConfig, decoder: str, *, questions: bool) -> Any:
    model = kind(config).eval()
    vision = weights("vision_encoder")
    if "embeddings.position_embedding" not in vision:
        vision["embeddings.position_embedding"] = torch.from_numpy(np.array(_positions()))
    filled(model.vision_model, vision)
    if questions:
        filled(model.text_encoder, weights("text_encoder"))
    words = weights(decoder)
    words["bert.embeddings.word_embeddings.weight"] = words["cls.predictions.decoder.weight"]
    filled(model.text_decoder, words)
    return model


def _positions() -> Any:
    """The exporter took them for a constant, since the pictures' size is fixed."""
    made = onnx.load(FOLDER / "1" / "vision_encoder.onnx").graph
    (found,) = [tensor for tensor in made.initializer if tensor.name == "alias"]
    return numpy_helper.to_array(found)


def main() -> None:
    # Threads that wait for each other cost such a small network more than they save.
    torch.set_num_threads(1)
    config = BlipConfig.from_pretrained(FOLDER / "1")
    tokenizer = BertTokenizerFast.from_pretrained(FOLDER / "1")
    processor = BlipImageProcessorPil.from_pretrained(FOLDER / "1")
    answering = restored(BlipForQuestionAnswering, config, "text_decoder", questions=True)
    captioning = restored(BlipForConditionalGeneration, config, "caption_decoder", questions=False)
    answers, captions = [], []
    with torch.inference_mode():
        for sample in json.loads((FOLDER / "example" / "samples.json").read_text("utf-8"))[:PICTURES]:
            image = Image.open(FOLDER / "example" / sample["image"]).convert("RGB")
            pixels = processor(image, return_tensors="pt")["pixel_values"]
            how = {"max_new_tokens": NEW_TOKENS, "max_length": None, "do_sample": False}
            for question in (*(asked["question"] for asked in sample["questions"]), *QUESTIONS):
                ids = tokenizer(question, return_tensors="pt")["input_ids"]
                said = [
                    answering.generate(input_ids=ids, pixel_values=pixels, num_beams=beams, **how)[0] for beams in BEAMS
                ]
                told = [tokenizer.decode(one, skip_special_tokens=True) for one in said]
                answers.append({"image": sample["image"], "question": question, "answers": told})
            for prompt in PROMPTS:
                given = tokenizer(prompt, return_tensors="pt")["input_ids"] if prompt else None
                said = [
                    captioning.generate(pixel_values=pixels, input_ids=given, num_beams=beams, **how)[0]
                    for beams in BEAMS
                ]
                told = [tokenizer.decode(one, skip_special_tokens=True) for one in said]
                captions.append({"image": sample["image"], "prompt": prompt, "captions": told})
    whole = {"transformers": "5.23.0", "beams": BEAMS, "max_new_tokens": NEW_TOKENS}
    json.dump(whole | {"answers": answers, "captions": captions}, sys.stdout)


if __name__ == "__main__":
    main()
