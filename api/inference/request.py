"""The one request of all who want a picture looked at: what it may hold, and its pictures as a job's inputs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from api.requests import InputRequest, Params, Sent, at_most
from fleet.errors import ValidationFailed
from fleet.model_source import WebUrl

#: base64 has no colon, so that the two are never taken for each other.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://", re.ASCII)
_SOURCES = ("image", "images", "image_url", "image_base64")
MAX_IMAGES = 256


def _spelled(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return {"url": value} if _URL.match(value) else {"data": value}


def _numbered(value: Any) -> Any:
    """Names in their order are names by number."""
    return {str(number): name for number, name in enumerate(value)} if isinstance(value, list) else value


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text must not contain the NUL character (\\u0000)")
    return text


Word = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain)]
ClassName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
Image = Annotated[
    InputRequest,
    BeforeValidator(_spelled, json_schema_input_type=str | InputRequest),
    Field(description="a URL, base64, a data URI, or an input as jobs have it: an upload, an object"),
]


class InferenceRequest(Sent):
    """A model, one picture or several, and what is to be done with them."""

    model_id: Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)] | None = Field(
        default=None, description="`name`, `name@alias` or `name@3`; of the hub `org/name`"
    )
    task: Word | None = Field(default=None, description="given, it must be the model's: classification, detection, ...")
    model_source: Word | None = Field(
        default=None, description="local, trained, huggingface or github: where a model comes from that is not here yet"
    )
    model_type: Word | None = Field(default=None, description="the kind of network: yolov8, vit, dinov2, blip, ...")
    checkpoint_url: Annotated[WebUrl, AfterValidator(_plain)] | None = Field(
        default=None, description="of an ONNX file, which is brought in once"
    )
    class_mapping: Annotated[
        dict[ClassName, ClassName],
        BeforeValidator(_numbered, json_schema_input_type=dict[str, str] | list[str]),
        at_most(10_000),
        Field(max_length=10_000),
    ] = Field(default_factory=dict, description="names of classes in the answer, by number or by the model's name")
    image: Image | None = None
    images: list[Image] | None = Field(default=None, max_length=MAX_IMAGES, description="one job with items")
    image_url: str | None = Field(default=None, min_length=1, max_length=4096)
    image_base64: str | None = Field(default=None, description="with or without `data:image/...;base64,` before it")
    prompt: str | None = Field(default=None, max_length=65_536, description="the question, for models that answer one")
    config: Params = Field(
        default_factory=dict,
        description="confidence, top_k, normalize, and whatever else the model's `params_schema` has",
    )

    @field_validator("prompt")
    @classmethod
    def _plain_prompt(cls, prompt: str | None) -> str | None:
        return None if prompt is None else _plain(prompt)


@dataclass(frozen=True)
class Given:
    """A picture as a job's input, and the field that it came in, as a JSON pointer."""

    request: InputRequest
    pointer: str


def pictures(asked: InferenceRequest) -> Sequence[Given]:
    """None at all is for the model to judge. Raises ValidationFailed `image-ambiguous`, `image-missing`."""
    said = [name for name in _SOURCES if getattr(asked, name) is not None]
    if len(said) > 1:
        raise _fault("image-ambiguous", f"exactly one of {', '.join(_SOURCES)} is needed, not {' and '.join(said)}")
    if asked.images is not None:
        if not asked.images:
            raise _fault("image-missing", "`images` is empty: there is nothing to look at", "#/images")
        return [Given(image, f"#/images/{number}") for number, image in enumerate(asked.images)]
    if asked.image_url is not None:
        return [Given(InputRequest(url=asked.image_url), "#/image_url")]
    if asked.image_base64 is not None:
        return [Given(InputRequest(data=asked.image_base64), "#/image_base64")]
    return [Given(asked.image, "#/image")] if asked.image is not None else []


def image_missing() -> ValidationFailed:
    return _fault("image-missing", f"there is no picture: send one of {', '.join(_SOURCES)}")


def _fault(code: str, message: str, pointer: str = "#") -> ValidationFailed:
    return ValidationFailed(message, [{"detail": message, "pointer": pointer}], code=code)
