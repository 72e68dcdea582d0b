"""A request for embeddings, as OpenAI's clients write it: read, and checked as far as it can be without the model."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, TypeAdapter
from pydantic import ValidationError as Invalid

from api.problems import pointer
from fleet.contracts import PriorityName
from fleet.embeddings import EmbeddingParams, Texts, fault, parse_texts
from fleet.errors import MalformedRequest, NotFound, ValidationFailed
from fleet.model_names import ModelReference

_INPUT = "#/input"
#: Whatever a model takes: all that a waiting request asks for lies in memory here.
_MOST_TEXTS = 65_536
_REFERENCE: TypeAdapter[str] = TypeAdapter(ModelReference)


class _Said(BaseModel):
    """`kind`, `prompt`, `truncate` and `priority` are Fleet's own. What is not known is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Annotated[StrictStr, Field(max_length=512)]
    input: Any = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[StrictInt, Field(ge=1)] | None = None
    #: For the provider's abuse detection. There is none here, and it is not kept.
    user: StrictStr | None = None
    kind: Literal["query", "passage"] | None = None
    prompt: Annotated[StrictStr, Field(max_length=128)] | None = None
    truncate: Literal["refuse", "end", "start"] | None = None
    priority: Literal["urgent", "high", "normal", "low"] = "normal"


@dataclass(frozen=True)
class EmbeddingRequest:
    model: str
    texts: Texts
    params: EmbeddingParams
    priority: PriorityName
    base64: bool
    #: Members of the body that mean nothing here.
    ignored: list[str]


def read_request(body: bytes) -> EmbeddingRequest:
    """Raises MalformedRequest `invalid-json`, ValidationFailed with pointers to the faults, NotFound."""
    document = read_object(body)
    try:
        said = _Said.model_validate(document)
    except Invalid as error:
        raise invalid(error) from error
    return EmbeddingRequest(
        model=_reference(said.model),
        texts=_texts(said.input),
        params=EmbeddingParams(kind=said.kind, prompt=said.prompt, dimensions=said.dimensions, truncate=said.truncate),
        priority=PriorityName(said.priority),
        base64=said.encoding_format == "base64",
        ignored=sorted(document.keys() - _Said.model_fields.keys()),
    )


def _texts(given: Any) -> Texts:
    if isinstance(given, list) and len(given) > _MOST_TEXTS and isinstance(given[0], str | list):
        raise fault(
            f"the request has {len(given):,} texts, and one that waits for its vectors may have {_MOST_TEXTS:,}: "
            "submit them as a job, with JSON lines as its input",
            code="too-many-texts",
            where=_INPUT,
        )
    return parse_texts(given, _INPUT)


def _reference(model: str) -> str:
    try:
        return _REFERENCE.validate_python(model)
    except Invalid:
        raise NotFound(
            f"there is no model {model!r}: models are named `name`, `name@alias` or `name@3`, see GET /v1/models",
            code="model-not-found",
            model=model,
        ) from None


def read_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises MalformedRequest `invalid-json`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}", code="invalid-json") from error
    if not isinstance(document, dict):
        raise MalformedRequest("the body must be a JSON object", code="invalid-json")
    return document


def invalid(error: Invalid) -> ValidationFailed:
    """With every fault, the first ones in the message."""
    faults = [
        {"detail": str(fault["msg"]).removeprefix("Value error, "), "pointer": pointer(fault["loc"])}
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    told = "; ".join(f"`{fault['pointer'].removeprefix('#/')}`: {fault['detail']}" for fault in faults[:3])
    return ValidationFailed(told, faults)
