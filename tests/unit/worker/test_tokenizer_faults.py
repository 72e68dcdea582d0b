"""A tokenizer that fails at a text is the model's fault, by a code, however many texts there are."""

import json
from pathlib import Path

import pytest

from fleet.errors import ModelError
from tests.support.tiny_embedder import tokenizer
from worker.text.tokens import TextTokenizer


@pytest.mark.parametrize("count", [1, 40])
def test_a_tokenizer_without_a_token_for_unknown_words_says_so(tmp_path: Path, count: int) -> None:
    content = json.loads(tokenizer().to_str())
    content["model"]["unk_token"] = "[NONE]"
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), "utf-8")
    made = TextTokenizer(path, lower_case=False, max_tokens=16, pad_id=None)
    with pytest.raises(ModelError, match="cannot read a text") as caught:
        made.tokenize(["zebra"] * count, "refuse", str)
    assert caught.value.code == "tokenizer-invalid"
