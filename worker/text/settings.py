"""What `model.yaml` may say of a text embedding under `pipeline`; the publisher's own files say the rest."""

from typing import Literal

from pydantic import Field, model_validator

from fleet.model_source import InnerPath
from worker.contract import TaskSettings

Pooling = Literal["mean", "cls", "max", "last", "none"]
Truncation = Literal["refuse", "end", "start"]


class RunTokens(TaskSettings):
    """Tokens, padding included, that one run has at most; a single text may have more."""

    #: What stays in a core's cache: measured with MiniLM, 1.2 times as many texts a second as with 2,048.
    cpu: int = Field(default=512, ge=1)
    gpu: int = Field(default=16_384, ge=1)


class EmbeddingSettings(TaskSettings):
    """Whatever is not said here is taken from the files that the model was published with."""

    tokenizer: InnerPath = "tokenizer.json"
    #: The graph's output; without it `sentence_embedding`, `text_embeds`, `last_hidden_state` or `token_embeddings`.
    output: str | None = None
    #: From the vectors of the tokens to that of the text; `none` where the graph has done it.
    pooling: Pooling | None = None
    #: Whether vectors are made one unit long.
    normalize: bool | None = None
    #: Of a text, special ones included.
    max_tokens: int | None = Field(default=None, ge=1)
    lower_case: bool | None = None
    #: Name -> what is put before a text; besides those of the publisher, or in their place.
    prompts: dict[str, str] = Field(default_factory=dict)
    #: The prompt of a request that names none and gives texts.
    default_prompt: str | None = None
    #: Lengths to which vectors may be cut, for models that were trained for it (Matryoshka); `any` up to their own.
    dimensions: list[int] | Literal["any"] = Field(default_factory=list)
    #: What happens to a text with too many tokens when its request does not say.
    truncate: Truncation = "refuse"
    #: Of one request; JSON lines have no such limits.
    max_texts: int = Field(default=2048, ge=1)
    max_total_tokens: int = Field(default=300_000, ge=1)
    run_tokens: RunTokens = RunTokens()

    @model_validator(mode="after")
    def _dimensions_are_lengths(self) -> "EmbeddingSettings":
        if self.dimensions != "any" and any(length < 1 for length in self.dimensions):
            raise ValueError("dimensions are numbers of at least 1, or `any`")
        return self
