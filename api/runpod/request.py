"""A request as RunPod's clients write it: what is to be run, and how its job is to be treated."""

import copy
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError

from api.inference.request import InferenceRequest
from api.openai.request import invalid, read_object
from fleet.contracts import PriorityName
from fleet.errors import FleetError, MalformedRequest, ValidationFailed
from fleet.webhook_values import CallbackBody

E = TypeVar("E", bound=FleetError)
#: The endpoint whose requests name their model themselves.
DEFAULT = "default"
#: On every job of this dialect: by it the jobs of an endpoint are found.
LABEL = "runpod-endpoint"
_WEEK_MS = 7 * 86_400_000
_WAIT_MS = (1000, 300_000)
_USUAL_WAIT_MS = 90_000
#: RunPod's client puts what it takes for an empty input into another one.
_WRAPPED = 3


class Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    executionTimeout: Annotated[int, Field(ge=5_000, le=_WEEK_MS)] | None = None
    ttl: Annotated[int, Field(ge=10_000, le=_WEEK_MS)] | None = None
    lowPriority: StrictBool = False


class RunRequest(BaseModel):
    """What is not known is passed over, as RunPod does."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input: Any = None
    webhook: Annotated[StrictStr, Field(max_length=4096)] | None = None
    policy: Policy = Policy()

    @property
    def given(self) -> dict[str, Any]:
        """The input itself. Raises ValidationFailed."""
        given = self.input
        for _ in range(_WRAPPED):
            if isinstance(given, dict) and given.keys() == {"input"}:
                given = given["input"]
        if not isinstance(given, dict) or not given:
            raise _fault("#/input", "`input` must be an object that says what is to be run, and not empty")
        return given

    def job_fields(self, endpoint: str) -> dict[str, Any]:
        """Of the job, besides what it runs on what; what is not said is the model's own."""
        policy = self.policy
        fields: dict[str, Any] = {
            "labels": {LABEL: endpoint},
            "priority": (PriorityName.LOW if policy.lowPriority else PriorityName.NORMAL).value,
        }
        if policy.ttl is not None:
            fields["deadline_s"] = policy.ttl / 1000
        if policy.executionTimeout is not None:
            fields["execution_timeout_s"] = policy.executionTimeout / 1000
        if self.webhook:
            fields["callback"] = {"url": self.webhook, "body": CallbackBody.RUNPOD.value}
        return fields


def read_run(body: bytes) -> RunRequest:
    """Raises MalformedRequest, ValidationFailed, `s3-config-refused` for secrets, which are stored nowhere."""
    document = read_object(body)
    if document.get("s3Config") is not None:
        raise _fault(
            "#/s3Config",
            "`s3Config` is not taken: results are kept in Fleet's own object store, and secrets in a request are "
            "stored nowhere. Leave it out",
            "s3-config-refused",
        )
    if document.get("policy", ...) is None:
        del document["policy"]
    try:
        return RunRequest.model_validate(document)
    except ValidationError as error:
        raise invalid(error) from error


def inference_of(endpoint: str, given: Mapping[str, Any]) -> InferenceRequest:
    """The model is the endpoint's, or for `default` the request's own. Raises ValidationFailed."""
    document = dict(given)
    if endpoint != DEFAULT:
        said = document.get("model_id")
        if said not in (None, endpoint):
            message = f"the endpoint {endpoint!r} runs the model of that name: leave `model_id` out, or ask {DEFAULT!r}"
            raise _fault("#/model_id", message)
        document["model_id"] = endpoint
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise invalid(error) from error


def wait_s(text: str | None) -> float:
    """Of `?wait=` in milliseconds, within RunPod's bounds. Raises MalformedRequest."""
    if text is None:
        return _USUAL_WAIT_MS / 1000
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise MalformedRequest(f"?wait={text[:32]}: must be milliseconds from {_WAIT_MS[0]} to {_WAIT_MS[1]}")
    return min(max(int(text), _WAIT_MS[0]), _WAIT_MS[1]) / 1000


def in_run(error: E) -> E:
    """The same fault with its place in the body of a run."""
    told = copy.copy(error)
    told.message = _placed(error.message)
    told.args = (told.message,)
    if isinstance(error, ValidationFailed):
        assert isinstance(told, ValidationFailed)  # noqa: S101 (a copy)
        told.errors = [{name: _placed(text) for name, text in fault.items()} for fault in error.errors]
    return told


def _placed(text: str) -> str:
    for callback in ("#/callback/url", "#/callback"):
        text = text.replace(callback, "#\0webhook")
    return text.replace("#/", "#/input/").replace("#\0", "#/")


def _fault(pointer: str, message: str, code: str | None = None) -> ValidationFailed:
    return ValidationFailed(message, [{"detail": message, "pointer": pointer}], code=code)
