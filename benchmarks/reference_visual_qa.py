"""What transformers' BLIP answers, for `parity_visual_qa.py`: run with a Python that has it, imports nothing of ours.

    python benchmarks/reference_visual_qa.py FOLDER PHOTOGRAPH... [--goldens]

Writes the folders of three models, each with its `reference.json`: the one that ships, whose weights, taken out of its
graphs, are asked about its samples in transformers' own BLIP; and `random_blips.py`, about the photographs. One
question at a time, without filling: in a batch transformers' BLIP looks at what fills up short questions, too.
`--goldens` also writes tests/support/visual_qa_goldens.json.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers as hf
from onnx import numpy_helper
from PIL import Image
from random_blips import RANDOM_BLIPS, Blip
from whole_torchvision import import_torchvision

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "models" / "shapes-vqa"
GOLDENS = ROOT / "tests" / "support" / "visual_qa_goldens.json"
#: Beside the samples' own questions: some that nobody should ask, of different lengths.
QUESTIONS = (
    "what is a dog doing?",
    "blue?",
    "describe the picture and the circle in the image, and the shape of the rectangle",
    "is it not what it is, or is it what it is not?",
)
RANDOM_QUESTIONS = (
    "what is in the picture", "how many cat are there", "colour of it", "a", "is this a cup of a cat on it?",
    "what? is there a picture in the picture, on a cup", "there are how many", "of of of of of of", "what colour",
)  # fmt: skip
PROMPTS = ("", "a picture of", "this is", "an image of a", "the blue", "there is no")
RANDOM_PROMPTS = (
    "",
    "a picture of",
    "this is",
    "there are a",
    "a cat on a cup in it",
    "what colour",
    "many",
    "how",
    "of",
)
BEAMS = (1, 3, 5)
NEW_TOKENS = 12
PICTURES = 10


def weights(graph: str) -> dict[str, torch.Tensor]:
    """By their names in the module that was exported; those of matrices lost theirs, and are found by their biases."""
    made = onnx.load(SHIPPED / "1" / f"{graph}.onnx").graph
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


def restored(kind: Any, config: Any, decoder: str, *, questions: bool) -> Any:
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
    made = onnx.load(SHIPPED / "1" / "vision_encoder.onnx").graph
    (found,) = [tensor for tensor in made.initializer if tensor.name == "alias"]
    return numpy_helper.to_array(found)


def shipped() -> Blip:
    config = hf.BlipConfig.from_pretrained(SHIPPED / "1")
    return Blip(
        hf.BertTokenizerFast.from_pretrained(SHIPPED / "1"),
        hf.BlipImageProcessorPil.from_pretrained(SHIPPED / "1"),
        restored(hf.BlipForQuestionAnswering, config, "text_decoder", questions=True),
        restored(hf.BlipForConditionalGeneration, config, "caption_decoder", questions=False),
    )


def asked(blip: Blip, pictures: Mapping[Path, Sequence[str]], prompts: Sequence[str]) -> dict[str, Any]:
    """`pictures`: the questions about each. Every question and prompt with each number of beams."""
    answers, captions = [], []
    how = {"max_new_tokens": NEW_TOKENS, "max_length": None, "do_sample": False}

    def told(network: Any, **given: Any) -> list[str]:
        said = [network.generate(**given, num_beams=beams, **how)[0] for beams in BEAMS]
        return [blip.tokenizer.decode(one, skip_special_tokens=True) for one in said]

    for picture, questions in pictures.items():
        pixels = blip.processor(Image.open(picture).convert("RGB"), return_tensors="pt")["pixel_values"]
        for question in questions if blip.answering is not None else ():
            ids = blip.tokenizer(question, return_tensors="pt")["input_ids"]
            said = told(blip.answering, input_ids=ids, pixel_values=pixels)
            answers.append({"image": picture.name, "question": question, "answers": said})
        for prompt in prompts if blip.captioning is not None else ():
            given = blip.tokenizer(prompt, return_tensors="pt")["input_ids"] if prompt else None
            said = told(blip.captioning, pixel_values=pixels, input_ids=given)
            captions.append({"image": picture.name, "prompt": prompt, "captions": said})
    whole = {"transformers": version("transformers"), "beams": BEAMS, "max_new_tokens": NEW_TOKENS}
    return whole | {"answers": answers, "captions": captions}


def saved(home: Path, said: dict[str, Any], pictures: Sequence[Path]) -> None:
    texts = [tuple(one["answers" if "answers" in one else "captions"]) for one in (*said["answers"], *said["captions"])]
    if len(set(texts)) < len(texts) // 3 and home.name != SHIPPED.name:
        raise SystemExit(f"{home.name} says the same of all: there is nothing to compare")
    places = {picture.name: str(picture) for picture in pictures}
    (home / "reference.json").write_text(json.dumps(said | {"pictures": places}), "utf-8")
    print(f"{home.name}: {len(set(texts))} of {len(texts)} are different", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("photographs", type=Path, nargs="*")
    parser.add_argument("--goldens", action="store_true")
    given = parser.parse_args()
    _torchvision = import_torchvision()
    # Threads that wait for each other cost such a small network more than they save.
    torch.set_num_threads(1)
    samples = json.loads((SHIPPED / "example" / "samples.json").read_text("utf-8"))[:PICTURES]
    pictures = {
        SHIPPED / "example" / sample["image"]: (*(one["question"] for one in sample["questions"]), *QUESTIONS)
        for sample in samples
    }
    with torch.inference_mode():
        said = asked(shipped(), pictures, PROMPTS)
        home = given.folder / SHIPPED.name
        shutil.copytree(SHIPPED, home)
        saved(home, said, list(pictures))
        if given.goldens:
            GOLDENS.write_text(json.dumps(said), "utf-8")
        for name, make in RANDOM_BLIPS.items():
            home = given.folder / name
            (home / "1").mkdir(parents=True)
            about = dict.fromkeys(given.photographs, RANDOM_QUESTIONS)
            saved(home, asked(make(home), about, RANDOM_PROMPTS), given.photographs)
    print(f"transformers {version('transformers')}, torch {version('torch')}")


if __name__ == "__main__":
    main()
