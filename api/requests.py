"""What callers may send, as types. Unknown fields are errors."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from api.names import clean_name
from fleet.contracts import Lane, PriorityName, Sha256
from fleet.model_names import ModelReference
from fleet.plain import check_plain
from fleet.values import Frozen
from fleet.webhook_values import ENDINGS, CallbackBody, JobEvent

_DAY_S = 86_400.0


def _counted(value: Any, most: int, what: str = "members") -> Any:
    if isinstance(value, dict | list) and len(value) > most:
        raise ValueError(f"at most {most:,} {what}, not {len(value):,}")
    return value


def at_most(most: int, what: str = "members") -> BeforeValidator:
    """Counted before any is judged: what is wrong with each of millions would take gigabytes to say."""
    return BeforeValidator(lambda value: _counted(value, most, what))


class Sent(Frozen):
    """What a caller sends: a value whose members, known or not, are few."""

    @model_validator(mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        return _counted(value, 100)


def _storable(value: Any) -> Any:
    check_plain(value)
    return value


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not 1 <= len(name) <= 256 or ":" in name:
            raise ValueError("a label's name has 1 to 256 characters and no colon")
        if len(value) > 256:
            raise ValueError("a label's value has at most 256 characters")
    return labels


Params = Annotated[dict[str, Any], AfterValidator(_storable)]
Labels = Annotated[dict[str, str], at_most(32, "labels"), AfterValidator(_labels), AfterValidator(_storable)]
#: A file name that a caller gave; made safe, never refused.
GivenName = Annotated[str, Field(max_length=4096), AfterValidator(clean_name)]
MediaType = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ObjectKey(Sent):
    bucket: str
    key: Annotated[str, AfterValidator(_storable)] = Field(max_length=1024)


class InputRequest(Sent):
    """Exactly one of `upload`, `object`, `prefix`, `data` and `url`."""

    upload: UUID | None = Field(default=None, description="id of an upload of yours")
    object: ObjectKey | None = Field(default=None, description="an upload, a result or an input of yours")
    prefix: ObjectKey | None = Field(default=None, description="pictures: all such objects whose keys begin so")
    data: str | None = Field(
        default=None,
        description="base64, or a data URI with it, of 1 byte to 1 MiB; of a picture as much as MAX_BODY_BYTES takes",
    )
    url: str | None = Field(
        default=None, min_length=1, max_length=4096, description="of a picture, which the worker fetches"
    )
    name: GivenName | None = Field(default=None, description="with `data` or `url`: the file name")
    media_type: MediaType | None = Field(default=None, description="with `data`")

    @model_validator(mode="after")
    def _one_source(self) -> "InputRequest":
        sources = ("upload", "object", "prefix", "data", "url")
        given = [field for field in sources if getattr(self, field) is not None]
        if len(given) != 1:
            listed = ", ".join(f"`{field}`" for field in sources)
            raise ValueError(f"exactly one of {listed} is needed, not {len(given)}")
        if self.name is not None and self.data is None and self.url is None:
            raise ValueError("`name` goes with `data` and `url` only")
        if self.media_type is not None and self.data is None:
            raise ValueError("`media_type` goes with `data` only")
        return self


class CallbackRequest(Sent):
    """Who is to be told of the job by webhook."""

    url: str = Field(max_length=4096, description="https://… of a receiver; see docs/how-to/webhooks.md")
    events: Annotated[list[JobEvent], AfterValidator(lambda events: list(dict.fromkeys(events)))] = Field(
        default=list(ENDINGS), min_length=1, max_length=16, description="the four endings, if nothing else is said"
    )
    body: CallbackBody = Field(
        default=CallbackBody.EVENT, description="what the receiver gets: Fleet's event, or the job in RunPod's form"
    )


class JobRequest(Sent):
    model: ModelReference = Field(description="`name`, `name@alias` or `name@3`")
    version: int | None = Field(default=None, ge=1, le=2**31 - 1, description="null: that of `default`, else highest")
    task: str | None = Field(default=None, max_length=128, description="given, it must be the model's")
    inputs: list[InputRequest] = Field(default_factory=list, max_length=256)
    params: Params = Field(default_factory=dict, description="checked against the model's `params_schema`")
    priority: PriorityName = PriorityName.NORMAL
    lane: Lane | None = Field(default=None, description="null: the model's")
    when_no_worker: Literal["wait", "refuse"] = Field(
        default="wait", description="`refuse`: 503 `no-capable-worker` while no worker lives that can run it"
    )
    deadline_s: Seconds | None = Field(
        default=None, le=30 * _DAY_S, description="seconds from now in which the job must end; null: the model's"
    )
    execution_timeout_s: Seconds | None = Field(
        default=None, le=7 * _DAY_S, description="seconds that one attempt may run; null: the model's"
    )
    retention_s: Seconds | None = Field(
        default=None, le=3650 * _DAY_S, description="seconds from the end until job, inputs and results are swept"
    )
    max_attempts: int | None = Field(default=None, ge=1, le=10, description="null: the model's")
    labels: Labels = Field(default_factory=dict)
    callback: CallbackRequest | None = None


class RetryRequest(Sent):
    deadline_s: Seconds | None = Field(
        default=None, le=30 * _DAY_S, description="seconds from now in which the job must end; null: as at first"
    )


class UploadRequest(Sent):
    name: GivenName
    size: int = Field(ge=0, description="bytes")
    sha256: Sha256 | None = Field(default=None, description="verified before the bytes are used")
    media_type: MediaType = "application/octet-stream"


class PartRequest(Sent):
    number: int = Field(ge=1, le=10_000)
    etag: str = Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")


class CompleteRequest(Sent):
    parts: list[PartRequest] = Field(default_factory=list, max_length=10_000)
