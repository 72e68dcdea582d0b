"""What `model.yaml` may say of a visual question answering model under `pipeline`, and what a request may ask of it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fleet.model_source import InnerPath
from worker.pictures.items import PictureParams
from worker.pictures.publisher import PictureSettings

MOST_QUESTIONS, MOST_BEAMS, MOST_NEW_TOKENS = 64, 10, 512
#: Far beyond what any of these models reads: what is too long for one is told in its tokens.
Words = Annotated[str, Field(max_length=8192)]
Beams = Annotated[int, Field(ge=1, le=MOST_BEAMS)]
NewTokens = Annotated[int, Field(ge=1, le=MOST_NEW_TOKENS)]


class GraphNames(BaseModel):
    """Files by their names without `.onnx`, for what their tensors leave open: two decoders that look alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision: str | None = None
    question: str | None = None
    answer: str | None = None
    answer_with_past: str | None = None
    caption: str | None = None
    caption_with_past: str | None = None


class VqaSettings(PictureSettings):
    """Nothing of it is needed beside the publisher's files, unless two graphs fit the same place."""

    graphs: GraphNames = GraphNames()
    tokenizer: InnerPath = "tokenizer.json"
    generation: InnerPath = "generation_config.json"
    #: With which token an answer begins and ends; else as the publisher's files say: mostly [DEC] and [SEP].
    start_token: str | None = None
    stop_token: str | None = None
    #: Where a request does not say; else as generation_config.json says, else 1 and 20.
    num_beams: Beams | None = None
    max_new_tokens: NewTokens | None = None


class VqaParams(PictureParams):
    question: Words | Annotated[list[Words], Field(min_length=1, max_length=MOST_QUESTIONS)] | None = Field(
        default=None, description="a question, or up to 64 of them: each is asked of each picture, which is read once"
    )
    prompt: Words | None = Field(
        default=None,
        description="how the caption begins; where no caption is asked for and the model takes questions, the question",
    )
    kind: Literal["answer", "caption"] | None = Field(
        default=None, description="null: an answer where something is asked that the model can answer, else a caption"
    )
    num_beams: Beams | None = Field(default=None, description="1: greedy; null: as the model's publisher says, else 1")
    max_new_tokens: NewTokens | None = Field(
        default=None, description="tokens of an answer at most; null: as the model's publisher says, else 20"
    )
