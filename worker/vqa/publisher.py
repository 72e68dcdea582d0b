"""What lies beside the graphs: how a picture is fed, with which tokens texts begin and end, how long they may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fleet.errors import ModelError
from worker.contract import Model
from worker.pictures.published import Published
from worker.pictures.publisher import PublishedFiles, picture_recipe
from worker.vqa.settings import MOST_BEAMS, MOST_NEW_TOKENS, VqaSettings

#: What transformers generates where nobody says how much, and how far BERT's positions reach.
_NEW_TOKENS, _POSITIONS = 20, 512
#: Exponents of lengths of texts beyond it are no numbers any more.
_MOST_PENALTY = 16
#: Of what a generation_config.json can ask for, what is not done here, and the values that ask for nothing.
_NOT_DONE: Mapping[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_beam_groups": (1,),
}


@dataclass(frozen=True)
class Search:
    """How a publisher wants answers to be searched for."""

    num_beams: int
    #: Tokens after those that are given. None: `max_length` counts.
    max_new_tokens: int | None
    #: The given ones included.
    max_length: int | None
    length_penalty: float
    early_stopping: bool | Literal["never"]
    #: What else it asks for, which is not done.
    left_out: tuple[str, ...] = ()

    def new_tokens(self, given: int) -> int:
        """At most so many, after `given` ones, and never more than a request may ask for."""
        if self.max_new_tokens is None and self.max_length is not None:
            return min(max(1, self.max_length - given), MOST_NEW_TOKENS)
        return min(self.max_new_tokens or _NEW_TOKENS, MOST_NEW_TOKENS)


class Publisher:
    """Of one loaded model. Raises ModelError `publisher-file-invalid`."""

    def __init__(self, model: Model) -> None:
        self._settings: VqaSettings = model.settings
        self._files = PublishedFiles(model.file)
        config = self._files.object(self._settings.config)
        #: BLIP's text tower has a config of its own.
        text = config.get("text_config")
        self._text: Mapping[str, Any] = text if isinstance(text, dict) else config
        self._generation = self._files.object(self._settings.generation)

    def recipe(self) -> Published:
        """Raises ModelError `preprocess-unknown`."""
        return picture_recipe(self._settings, self._files, {})

    @property
    def start_id(self) -> int | None:
        """Of the token that an answer begins with."""
        return self._number(self._generation.get("decoder_start_token_id"), self._text.get("bos_token_id"))

    @property
    def stop_id(self) -> int | None:
        """Of the token that ends it. What published BLIPs say is their `eos_token_id` means nothing."""
        return self._number(self._text.get("sep_token_id"))

    @property
    def words(self) -> int | None:
        return self._number(self._text.get("vocab_size"))

    @property
    def positions(self) -> int:
        """Tokens of a text at most, special ones included."""
        return self._number(self._text.get("max_position_embeddings")) or _POSITIONS

    def search(self) -> Search:
        """Raises ModelError `publisher-file-invalid` for more beams than are done, and a penalty that is no number."""
        said, settings = self._generation, self._settings
        early = said.get("early_stopping", False)
        beams = settings.num_beams or self._number(said.get("num_beams")) or 1
        if beams > MOST_BEAMS:
            raise self._invalid("num_beams", beams, f"at most {MOST_BEAMS}; set pipeline.num_beams in model.yaml")
        penalty = said.get("length_penalty")
        penalty = 1.0 if penalty is None else penalty
        if not isinstance(penalty, int | float) or not abs(penalty) <= _MOST_PENALTY:
            raise self._invalid("length_penalty", penalty, f"a number from -{_MOST_PENALTY} to {_MOST_PENALTY}")
        return Search(
            num_beams=beams,
            max_new_tokens=settings.max_new_tokens or self._number(said.get("max_new_tokens")),
            max_length=self._number(said.get("max_length")),
            length_penalty=float(penalty),
            early_stopping="never" if early == "never" else early is True,
            left_out=tuple(name for name, idle in _NOT_DONE.items() if said.get(name) not in (None, *idle)),
        )

    def _invalid(self, field: str, value: object, wanted: str) -> ModelError:
        # Python refuses to write whole numbers of more than some thousand digits.
        shown = "a huge number" if isinstance(value, int) and abs(value) > 10**18 else repr(value)[:80]
        return ModelError(
            f"{self._settings.generation} says {field} {shown}, and it must be {wanted}", code="publisher-file-invalid"
        )

    @staticmethod
    def _number(*told: Any) -> int | None:
        """The first that is one; of a list of ids the first."""
        for value in told:
            first = value[0] if isinstance(value, list) and value else value
            if isinstance(first, int) and not isinstance(first, bool) and first >= 0:
                return first
        return None
