"""Everything that this client raises on purpose.

FleetError
├── InputUnusable         a path, file or folder that cannot be sent
├── ConnectionFailed      no answer: refused, reset, unknown host, TLS
├── Timeout               no answer, or no end of the job, within the time that was given
├── TransferFailed        the object store refused bytes, or did not send all of them
│   └── ChecksumMismatch      what arrived is not what the job made
├── APIError              the server answered with an error
│   ├── InvalidRequest        400, 415, 422
│   ├── Unauthorized          401
│   ├── Forbidden             403
│   ├── NotFound              404
│   ├── Conflict              409
│   ├── TooLarge              413
│   ├── TooManyRequests       429
│   └── Unavailable           502, 503, 504
├── ImportFailed          a model's version that was waited for could not be brought in
└── JobEnded              a job that was waited for ended without a result
    ├── JobFailed
    ├── JobCancelled
    └── JobExpired

`code` is stable, lower-case and hyphenated; compare it, not the message. For an `APIError` it is the server's own code,
for a `JobFailed` the code of the job's error, for an `ImportFailed` that of the import's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleet_client.job import Job
    from fleet_client.model_records import ModelVersion


class FleetError(Exception):
    """Base of all."""

    code: str = "client-error"
    #: Whether the same request may succeed a moment later; the client retries these by itself.
    retryable: bool = False
    #: Seconds that the server asked us to wait, if it did.
    retry_after: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputUnusable(FleetError):
    code = "input-unusable"


class ConnectionFailed(FleetError):
    code = "connection-failed"
    retryable = True


class Timeout(FleetError):
    code = "timeout"
    retryable = True


class TransferFailed(FleetError):
    """`status` is the object store's answer, or None when it broke off."""

    code = "transfer-failed"

    def __init__(self, message: str, *, status: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable


class ChecksumMismatch(TransferFailed):
    code = "checksum-mismatch"


class APIError(FleetError):
    """What the server said, as RFC 9457 problem details.

    `errors` lists the single faults of a request as {"detail", "pointer"}, `facts` holds the values behind the message,
    and `request_id` finds the request in the server's log.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str,
        errors: Sequence[dict[str, str]] = (),
        facts: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.errors = list(errors)
        self.facts = dict(facts or {})
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        faults = "".join(f"\n  {fault.get('pointer', '')} {fault.get('detail', '')}" for fault in self.errors)
        return f"{self.detail} [{self.status} {self.code}]{faults}"


class InvalidRequest(APIError):
    pass


class Unauthorized(APIError):
    pass


class Forbidden(APIError):
    pass


class NotFound(APIError):
    pass


class Conflict(APIError):
    pass


class TooLarge(APIError):
    pass


class TooManyRequests(APIError):
    retryable = True


class Unavailable(APIError):
    @property
    def retryable(self) -> bool:  # type: ignore[override]
        """Who asked to be told that nobody can do it is told at once."""
        return self.code not in ("no-capable-worker", "model-unloaded", "model-not-ready")


class ImportFailed(FleetError):
    """`version` is what the server said last."""

    code = "import-failed"

    def __init__(self, version: "ModelVersion") -> None:
        why = version.error.message if version.error else f"it is {version.state}"
        super().__init__(f"version {version.version} of the model {version.name!r} could not be brought in: {why}")
        self.version = version
        if version.error is not None:
            self.code = version.error.code


class JobEnded(FleetError):
    """`job` is the job as it ended, with its error."""

    def __init__(self, job: "Job") -> None:
        fault = job.error
        super().__init__(f"job {job.id} {job.state}" + (f": {fault.message} [{fault.code}]" if fault else ""))
        self.job = job
        if fault is not None:
            self.code = fault.code


class JobFailed(JobEnded):
    code = "job-failed"


class JobCancelled(JobEnded):
    code = "cancelled"


class JobExpired(JobEnded):
    code = "expired"
