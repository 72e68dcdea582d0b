"""A text embedding small enough to work out by hand: a graph, a tokenizer and a publisher's files, made on the spot.

A token's vector is its row of the table plus the mean of the rows of all tokens of its text. So whatever fills a text
up shows in the answer unless the mask is heeded, and so does a token too many or too few.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fleet.settings import CPU_PROVIDER
from worker.contract import Array
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.tasks import find_tasks

MODEL = "tiny-embedder"
WIDTH, MAX_TOKENS = 6, 12
PAD, UNKNOWN, BEGIN, END = range(4)
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "query", "passage", ":", "the"]
VOCABULARY = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
TABLE: Array = np.random.default_rng(5).normal(size=(len(VOCABULARY), WIDTH)).astype(np.float32)
PROMPTS = {"query": "query : ", "document": "passage : "}


def make_model(
    repository: Path,
    *,
    files: dict[str, Any] | None = None,
    table: Array = TABLE,
    length: int | str = "tokens",
    beside: bool = False,
    **manifest: Any,
) -> Path:
    """The model's folder. `files` replaces publisher's files (None: left out); `beside`: they lie beside the versions.

    `manifest` are fields of model.yaml.
    """
    folder = repository / MODEL
    version = folder / "1"
    version.mkdir(parents=True)
    onnx.save(graph(table, length), version / "model.onnx")
    home = folder if beside else version
    (home / "1_Pooling").mkdir()
    tokenizer().save(str(home / "tokenizer.json"))
    for name, content in (published() | (files or {})).items():
        if content is not None:
            (home / name).write_text(json.dumps(content), "utf-8")
    said = {"task": "text-embedding", "lane": "interactive", "device": "any"} | manifest
    (folder / "model.yaml").write_text(yaml.safe_dump(said), "utf-8")
    return folder


def published() -> dict[str, Any]:
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    return {
        "modules.json": [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in modules],
        "1_Pooling/config.json": {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": MAX_TOKENS, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": PROMPTS, "default_prompt_name": None},
    }


def tokenizer() -> Tokenizer:
    """One token a word. As saved it cuts at five tokens and fills up to five: a publisher's own, to be switched off."""
    made = Tokenizer(models.WordLevel(VOCABULARY, "[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", BEGIN), ("[SEP]", END)]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", special)
    made.enable_truncation(5)
    made.enable_padding(pad_id=PAD, pad_token="[PAD]", length=5)
    return made


def graph(table: Array, length: int | str) -> onnx.ModelProto:
    shape: list[str | int | None] = ["texts", length]
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names]
    hidden = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, table.shape[1]])
    constants = {
        "table": table,
        "types": np.zeros((2, table.shape[1]), np.float32),
        "tokens_axis": np.array([1], np.int64),
        "last_axis": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Gather", ["types", "token_type_ids"], ["kinds"]),
        helper.make_node("Add", ["rows", "kinds"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last_axis"], ["mask"]),
        helper.make_node("Mul", ["vectors", "mask"], ["own"]),
        helper.make_node("ReduceSum", ["own", "tokens_axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["mask", "tokens_axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Add", ["vectors", "mean"], ["last_hidden_state"]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, MODEL, inputs, [hidden], initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ids_of(text: str) -> list[int]:
    return [BEGIN, *(VOCABULARY.get(word, UNKNOWN) for word in text.lower().split()), END]


def hidden_of(ids: list[int]) -> Array:
    """float64 [tokens, width]: what the graph answers for one text."""
    rows = TABLE[ids].astype(np.float64)
    hidden: Array = rows + rows.mean(axis=0)
    return hidden


def unit(vector: Array) -> Array:
    made: Array = vector / np.linalg.norm(vector)
    return made


def expected(text: str) -> Array:
    """The vector of a text by the model as it is published."""
    return unit(hidden_of(ids_of(text)).mean(axis=0))


def loaded(folder: Path) -> LoadedModel:
    version = read_versions(folder, find_tasks())[0]
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
    return LoadedModel(version, Session(version.graph, setup), setup)
