"""Texts to token ids with the model's own tokenizer, and what is cut from a text that has too many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from fleet.embeddings import Texts, fault
from fleet.errors import ModelError
from fleet.objects import file_digest
from worker.contract import Array
from worker.text.settings import Truncation

#: So many texts are shared out to the library's threads; for fewer, waking these costs more than they save.
_SHARED_OUT = 32


@dataclass(frozen=True)
class Tokens:
    """Of several texts: int64 ids of each, as they are fed."""

    ids: list[Array]
    #: Texts of which a part was cut off.
    truncated: int

    @property
    def total(self) -> int:
        return sum(map(len, self.ids))

    @property
    def counts(self) -> Array:
        """int32 [texts]: tokens of each."""
        return np.asarray([len(ids) for ids in self.ids], np.int32)


class TextTokenizer:
    """Thread-safe: nothing of the library's object changes after it was made, and its work leaves Python's lock free.

    What tokenizer.json says of truncation and padding is for its publisher's own code, and often is not what the model
    was trained with: all-MiniLM-L6-v2's would cut at 128 tokens, and fill each text up to 128.
    """

    def __init__(self, path: Path, *, lower_case: bool, max_tokens: int, pad_id: int | None) -> None:
        """Raises ModelError `tokenizer-invalid`."""
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise ModelError(f"{path.name} is not a tokenizer: {error}", code="tokenizer-invalid") from error
        padding = self._tokenizer.padding
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if lower_case:
            ours = self._tokenizer.normalizer
            self._tokenizer.normalizer = Normalizers([Lowercase(), *([ours] if ours else [])])
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self.max_tokens = max_tokens
        self.sha256 = file_digest(path)
        #: Of what a text is filled up with; the mask says that it is nothing.
        self.pad_id: int = pad_id if pad_id is not None else (padding or {}).get("pad_id", 0)
        #: Whether the tokenizer's own file says what fills up.
        self.pads = padding is not None
        self.highest_id: int = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def id_of(self, token: Any) -> int | None:
        """Of a token by its name; None where the vocabulary has none of it."""
        found: int | None = self._tokenizer.token_to_id(token) if isinstance(token, str) else None
        return found

    def tokenize(
        self, texts: Texts, truncate: Truncation, where: Callable[[int], str], *, prompt: str = "", first: int = 0
    ) -> Tokens:
        """The ids of each text; `prompt` is put before texts, never before ids, which are fed as they are.

        For messages: `first` is the number of the first text, and `where` tells the pointer to a text by its number.
        Raises ValidationFailed: `text-too-long`, `text-empty`, `token-id-invalid`; ModelError `tokenizer-invalid`.
        """
        if not texts:
            return Tokens([], 0)
        if isinstance(texts[0], str):
            return self._tokenized([prompt + str(text) for text in texts], truncate, where, first)
        return self._given(texts, truncate, where, first)

    def _tokenized(self, texts: Sequence[str], truncate: Truncation, where: Callable[[int], str], first: int) -> Tokens:
        found, truncated = [], 0
        shared_out = len(texts) >= _SHARED_OUT
        try:
            one, many = self._tokenizer.encode, self._tokenizer.encode_batch_fast
            encodings = many(texts) if shared_out else [*map(one, texts)]
        except Exception as error:
            # The library raises nothing more special, for instance where the token for unknown words is not there.
            raise ModelError(f"the model's tokenizer cannot read a text: {error}", code="tokenizer-invalid") from error
        for n, encoding in enumerate(encodings, first):
            ids = encoding.ids
            if len(ids) > self.max_tokens:
                if truncate == "refuse":
                    raise self._too_long(len(ids), where(n), n)
                ids, truncated = self._cut(texts[n - first], truncate).ids, truncated + 1
            if not ids:
                raise fault(f"text {n} has no token that the model knows", code="text-empty", where=where(n), item=n)
            found.append(np.asarray(ids, np.int64))
        return Tokens(found, truncated)

    def _cut(self, text: str, truncate: Truncation) -> Encoding:
        """Cut before special tokens are put around it, as the publisher's code does: the last one is not lost."""
        bare = self._tokenizer.encode(text, add_special_tokens=False)
        bare.truncate(max(self.max_tokens - self._special, 0), direction="left" if truncate == "start" else "right")
        return self._tokenizer.post_process(bare)

    def _given(self, texts: Sequence[Any], truncate: Truncation, where: Callable[[int], str], first: int) -> Tokens:
        found, truncated = [], 0
        for n, given in enumerate(texts, first):
            if (highest := max(given)) > self.highest_id:
                raise fault(
                    f"the token id {highest} of text {n} is not in the model's vocabulary, which ends at "
                    f"{self.highest_id}: ids of another model's tokenizer mean nothing here; send texts",
                    code="token-id-invalid",
                    where=where(n),
                    item=n,
                    token_id=highest,
                    highest_id=self.highest_id,
                )
            if len(given) > self.max_tokens:
                if truncate == "refuse":
                    raise self._too_long(len(given), where(n), n)
                truncated += 1
            ids = given[-self.max_tokens :] if truncate == "start" else given[: self.max_tokens]
            found.append(np.asarray(ids, np.int64))
        return Tokens(found, truncated)

    def _too_long(self, tokens: int, where: str, n: int) -> Exception:
        return fault(
            f"text {n} has {tokens} tokens, and the model takes at most {self.max_tokens}: shorten it, or ask for "
            '"truncate": "end"',
            code="text-too-long",
            where=where,
            item=n,
            tokens=tokens,
            max_tokens=self.max_tokens,
        )
