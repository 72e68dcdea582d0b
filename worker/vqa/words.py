"""Words to token ids and back, with the model's own tokenizer."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from fleet.errors import ModelError, storable
from worker.contract import Model
from worker.vqa.publisher import Publisher
from worker.vqa.settings import VqaSettings

#: What BLIP's authors called them: an answer begins with the one and ends with the other.
_START, _STOP = "[DEC]", "[SEP]"


class Vocabulary:
    """Thread-safe: nothing of the library's object changes after it was made."""

    def __init__(self, model: Model, publisher: Publisher) -> None:
        """Raises ModelError `tokenizer-missing`, `tokenizer-invalid` or `token-unknown`."""
        settings: VqaSettings = model.settings
        path = model.file(settings.tokenizer)
        if path is None:
            raise ModelError(
                f"there is no {settings.tokenizer} in the model's folder, nor in its version's",
                code="tokenizer-missing",
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise ModelError(f"{path.name} is not a tokenizer: {error}", code="tokenizer-invalid") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        #: How many there are; published tokenizers lack the last ones, [DEC] and [ENC].
        self.size: int = publisher.words or self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.start = self._id("start", settings.start_token, publisher.start_id, _START)
        self.stop = self._id("stop", settings.stop_token, publisher.stop_id, _STOP)

    def question(self, text: str) -> list[int]:
        """As its publisher's tokenizer puts it, special tokens around it: [CLS] … [SEP]."""
        return self._ids(text, around=True)

    def beginning(self, text: str) -> list[int]:
        """What a caption begins with: the start token and the words, without what would end it."""
        return [self.start, *self._ids(text, around=False)]

    def bare(self, text: str) -> bool:
        """Whether there is no word in it."""
        return not self._ids(text, around=False)

    def text(self, ids: Sequence[int]) -> str:
        """Without special tokens, and without what no record can hold."""
        return str(storable(self._tokenizer.decode(list(ids), skip_special_tokens=True)))

    def _ids(self, text: str, *, around: bool) -> list[int]:
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=around).ids)
        except Exception as error:
            # The library raises nothing more special, for instance where the token for unknown words is not there.
            raise ModelError(f"the model's tokenizer cannot read a text: {error}", code="tokenizer-invalid") from error

    def _id(self, role: str, said: str | None, published: int | None, usual: str) -> int:
        known = self._tokenizer.token_to_id(said or usual)
        if said is None and published is not None:
            if published >= self.size:
                raise ModelError(
                    f"the publisher's files say that the {role} token has the id {published}, and there are "
                    f"{self.size} words: set pipeline.{role}_token",
                    code="token-unknown",
                )
            return published
        if known is None:
            raise ModelError(
                f"the tokenizer has no {said or usual}: say in model.yaml under pipeline.{role}_token with which token "
                f"an answer {'begins' if role == 'start' else 'ends'}",
                code="token-unknown",
            )
        return int(known)
