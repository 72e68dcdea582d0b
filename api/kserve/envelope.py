"""What an inference request says around its tensors: read, with its words and numbers checked, and not yet its data."""

import json
import re
from collections.abc import Mapping
from reprlib import repr as shown
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic import ValidationError as Invalid

from fleet.contracts import PriorityName
from fleet.errors import MalformedRequest, ValidationFailed
from fleet.tensors import MAX_DIMENSIONS

_SHARED_MEMORY = "shared_memory_"
_NOT_FINITE = re.compile(rb"NaN|Infinity")
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_DAY_S = 86_400.0
_PRIORITIES = {1: PriorityName.URGENT, 2: PriorityName.HIGH, 3: PriorityName.NORMAL}


def _no_shared_memory(parameters: "Parameters") -> "Parameters":
    named = next((name for name in parameters if name.startswith(_SHARED_MEMORY)), None)
    if named is not None:
        raise ValueError(f"{named!r}: shared memory is not possible here, send the tensor itself")
    return parameters


Parameters = dict[str, StrictStr | StrictBool | StrictInt | StrictFloat]
TensorParameters = Annotated[Parameters, AfterValidator(_no_shared_memory)]
Name = Annotated[StrictStr, Field(max_length=1024)]
Size = Annotated[StrictInt, Field(ge=0, le=2**62)]


class _Said(BaseModel):
    """Members that are not known are passed over, as KServe asks."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SaidInput(_Said):
    name: Name
    shape: list[Size] = Field(max_length=MAX_DIMENSIONS)
    datatype: Annotated[StrictStr, Field(max_length=64)]
    parameters: TensorParameters = Field(default_factory=dict)
    data: Any = None

    @property
    def binary_size(self) -> int | None:
        """Bytes of its blob; None when its data are in the JSON. Raises ValidationFailed."""
        said = self.parameters.get("binary_data_size")
        if said is None:
            return None
        if isinstance(said, bool) or not isinstance(said, int) or said < 0:
            raise wrong(f"input {self.name!r}: `binary_data_size` must be a number of bytes, not {shown(said)}")
        return said


class SaidOutput(_Said):
    name: Name
    parameters: TensorParameters = Field(default_factory=dict)

    @property
    def binary(self) -> bool | None:
        return flag(self.parameters, "binary_data", f"output {self.name!r}: ")

    @property
    def classification(self) -> int:
        said = self.parameters.get("classification", 0)
        if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said <= 1_000_000:
            raise wrong(f"output {self.name!r}: `classification` must be a number of classes, not {shown(said)}")
        return said


class Envelope(_Said):
    id: StrictStr | None = None
    parameters: Parameters = Field(default_factory=dict)
    inputs: list[SaidInput] = Field(max_length=1024)
    outputs: list[SaidOutput] | None = Field(default=None, max_length=1024)

    @property
    def binary_output(self) -> bool:
        return flag(self.parameters, "binary_data_output", "") or False

    @property
    def timeout_s(self) -> float | None:
        """Of `timeout`, which is in microseconds; 0 is none. At most 30 days."""
        microseconds = _count(self.parameters, "timeout")
        return min(microseconds / 1e6, 30 * _DAY_S) if microseconds else None

    @property
    def priority(self) -> PriorityName | None:
        """Of Triton's numbers, which count from 1; 0 leaves it to the model."""
        return priority_of(_count(self.parameters, "priority"))


def priority_of(number: int) -> PriorityName | None:
    return _PRIORITIES.get(number, PriorityName.LOW) if number else None


def read_envelope(header: memoryview) -> Envelope:
    """Raises MalformedRequest `invalid-json`, ValidationFailed."""
    try:
        envelope = Envelope.model_validate(_json(bytes(header)))
    except Invalid as error:
        raise wrong("; ".join(_fault(fault) for fault in error.errors()[:3])) from error
    _check_parameters(envelope.parameters)
    return envelope


def wrong(message: str) -> ValidationFailed:
    return ValidationFailed(message, code="tensors-invalid")


def flag(parameters: Mapping[str, object], name: str, where: str) -> bool | None:
    said = parameters.get(name)
    if said is not None and not isinstance(said, bool):
        raise wrong(f"{where}`{name}` must be true or false, not {shown(said)}")
    return said


def _json(header: bytes) -> Any:
    """Numbers may be NaN, Infinity and -Infinity, as Triton's client writes them."""
    try:
        return orjson.loads(header)
    except orjson.JSONDecodeError as error:
        refusal = MalformedRequest(f"the request is not JSON: {error}", code="invalid-json")
        if not _NOT_FINITE.search(header) or _HALF_CHARACTER.search(header):
            raise refusal from error
        try:
            return json.loads(header)
        except (ValueError, RecursionError):
            raise refusal from error


def _check_parameters(parameters: Parameters) -> None:
    """Custom ones are taken, and no model sees them; what would mean something that is not done here is refused."""
    for name, value in parameters.items():
        if name.startswith("sequence_") and value:
            raise wrong(f"parameter {name!r}: sequences of requests are not possible here, each stands for itself")
        if name.startswith("triton_"):
            raise wrong(f"parameter {name!r}: names that begin with 'triton_' are reserved")
        if name.startswith(_SHARED_MEMORY):
            raise wrong(f"parameter {name!r}: shared memory is not possible here, send the tensors")


def _count(parameters: Mapping[str, object], name: str) -> int:
    said = parameters.get(name, 0)
    if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said < 2**64:
        raise wrong(f"parameter {name!r} must be a whole number from 0, not {shown(said)}")
    return said


def _fault(fault: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"] if not isinstance(part, str) or part.islower())
    return f"{where or 'the request'}: {str(fault['msg']).removeprefix('Value error, ')}"
