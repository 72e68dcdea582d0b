"""The one error tree. Everything that Fleet raises on purpose is here; nothing here knows HTTP.

FleetError
├── InputError            the caller's input is wrong; never retried
│   ├── MalformedRequest      a body or header that cannot be read at all
│   ├── ValidationFailed      a request or parameter breaks its schema
│   ├── UnsupportedMedia      the bytes are not a format that the task reads
│   ├── CorruptInput          the format is right but the bytes are damaged
│   ├── GeometryError         a volume's grid is unusable (spacing, direction, missing slices)
│   ├── InputTooLarge         beyond a stated limit (bytes, voxels, files)
│   ├── ForeignObject         an object reference outside the buckets that are ours
│   └── UrlRefused            a URL that Fleet does not go to: its form, or where it leads
├── NotFound              job, model, version, task, upload or artifact that does not exist
├── Conflict              the thing exists but is in the wrong state for the request
│   └── IdempotencyKeyReused  same key, other body
├── Unauthorized
├── ModelError            the model repository or a graph is unusable
├── RunStopped            a run was ended on purpose (cancel, deadline, drain, lost lease)
├── NoCapableWorker
├── Busy                  this process does as much of it as it may; a moment later, or another process, can
├── LaneFull              more waits in a lane than the fleet takes on; later it will
│   └── TooManyWaiting        ... of one tenant
└── DependencyError       PostgreSQL, Redis or the object store failed; retried
    ├── IntegrityError        stored bytes differ from their checksum; not retried
    └── NoAnswer              a server that a user named did not answer, or not in time

A class says what kind of thing went wrong; `code` is stable and may be narrowed per occurrence
(`CorruptInput(..., code="truncated-gzip")`); `retryable` says whether the same job may succeed later.
"""

import math
from typing import Any, ClassVar


class FleetError(Exception):
    """Base of all. `facts` are the values behind the message, safe to log and to return."""

    #: Stable, lower-case, hyphenated; what scripts and clients compare.
    code: str = "internal-error"
    #: Whether running the same job again may succeed.
    retryable: ClassVar[bool] = False
    #: Seconds after which it is worth to ask again, where that is known.
    retry_after_s: float | None = None

    def __init__(self, message: str, *, code: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.facts = facts

    def as_dict(self) -> dict[str, Any]:
        """The form kept in a job row and returned to users."""
        record: dict[str, Any] = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if isinstance(self, InputError):
            record["input_at_fault"] = True
        if self.facts:
            record["facts"] = self.facts
        return {key: storable(value) for key, value in record.items()}


def storable(value: Any) -> Any:
    """The value as strict JSON that PostgreSQL takes: facts may quote hostile files.

    NUL and lone surrogates are replaced, numbers that are not finite become words, other types become text.
    """
    match value:
        case dict():
            return {str(storable(str(key))): storable(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [storable(item) for item in value]
        case str():
            return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
        case float() if not math.isfinite(value):
            return str(value)
        case bool() | int() | float() | None:
            return value
    return storable(str(value))


class InputError(FleetError):
    code = "invalid-input"


class MalformedRequest(InputError):
    code = "malformed-request"


class ValidationFailed(InputError):
    """`errors` lists every fault as {"detail", "pointer"} (JSON pointer into the request)."""

    code = "validation-failed"

    def __init__(
        self,
        message: str,
        errors: list[dict[str, str]] | None = None,
        *,
        code: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, code=code, **facts)
        self.errors = errors or []

    def as_dict(self) -> dict[str, Any]:
        """A job's error has no list of faults: the first one's pointer is a fact."""
        record = super().as_dict()
        if self.errors and "pointer" not in self.facts:
            record["facts"] = {**record.get("facts", {}), "pointer": storable(self.errors[0]["pointer"])}
        return record


class UnsupportedMedia(InputError):
    code = "unsupported-media"


class CorruptInput(InputError):
    code = "corrupt-input"


class GeometryError(InputError):
    code = "invalid-geometry"


class InputTooLarge(InputError):
    code = "input-too-large"


class ForeignObject(InputError):
    code = "foreign-object"


class UrlRefused(InputError):
    code = "url-refused"


class NotFound(FleetError):
    code = "not-found"


class Conflict(FleetError):
    code = "conflict"


class IdempotencyKeyReused(Conflict):
    code = "idempotency-key-reused"


class Unauthorized(FleetError):
    code = "unauthorized"


class ModelError(FleetError):
    code = "model-error"


class RunStopped(FleetError):
    """Raised inside a run that was ended on purpose; `code` is the reason.

    `cancelled`, `expired`, `drained` or `lease-lost`.
    """

    code = "stopped"


class NoCapableWorker(FleetError):
    code = "no-capable-worker"
    retryable = True


class Busy(FleetError):
    code = "busy"
    retryable = True


class LaneFull(FleetError):
    code = "lane-full"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after_s = retry_after_s


class TooManyWaiting(LaneFull):
    code = "too-many-waiting"


class DependencyError(FleetError):
    code = "dependency-unavailable"
    retryable = True


class IntegrityError(DependencyError):
    code = "checksum-mismatch"
    # The same bytes would come again.
    retryable = False


class NoAnswer(DependencyError):
    code = "no-answer"
