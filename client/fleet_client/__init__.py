"""Python client for Fleet: submit ONNX jobs, wait for them, save their results.

    from fleet_client import Client

    with Client("http://127.0.0.1:8000") as fleet:
        job = fleet.segment("scan.nii.gz", model="brain-extraction")
        job.wait(progress=True)
        print(job.save("out/"))

Everything that may be imported is named here; other modules may change without notice.
"""

from fleet_client.client import VERSION, Client
from fleet_client.embeddings import Embeddings
from fleet_client.errors import (
    APIError,
    ChecksumMismatch,
    Conflict,
    ConnectionFailed,
    FleetError,
    Forbidden,
    ImportFailed,
    InputUnusable,
    InvalidRequest,
    JobCancelled,
    JobEnded,
    JobExpired,
    JobFailed,
    NotFound,
    Timeout,
    TooLarge,
    TooManyRequests,
    TransferFailed,
    Unauthorized,
    Unavailable,
)
from fleet_client.fleet_status import FleetStatus, QueuesStatus, QueueStatus, RunningStatus, WorkerStatus
from fleet_client.inputs import Input
from fleet_client.job import Job
from fleet_client.model_places import ModelFiles
from fleet_client.model_records import (
    ModelHealth,
    ModelMetrics,
    ModelOnWorker,
    ModelStatus,
    ModelUsage,
    ModelVersion,
    ModelVersionStatus,
    Quantiles,
)
from fleet_client.records import (
    Artifact,
    Callback,
    Forecast,
    ItemFault,
    JobFault,
    JobItem,
    JobRecord,
    JobState,
    Model,
    ObjectPrefix,
    ObjectRef,
    RanOn,
    Transfer,
    Upload,
)
from fleet_client.retry import Retries
from fleet_client.webhooks import WebhookDelivery, WebhookTry

__version__ = VERSION

__all__ = [
    "APIError",
    "Artifact",
    "Callback",
    "ChecksumMismatch",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Embeddings",
    "FleetError",
    "FleetStatus",
    "Forbidden",
    "Forecast",
    "ImportFailed",
    "Input",
    "InputUnusable",
    "InvalidRequest",
    "ItemFault",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobExpired",
    "JobFailed",
    "JobFault",
    "JobItem",
    "JobRecord",
    "JobState",
    "Model",
    "ModelFiles",
    "ModelHealth",
    "ModelMetrics",
    "ModelOnWorker",
    "ModelStatus",
    "ModelUsage",
    "ModelVersion",
    "ModelVersionStatus",
    "NotFound",
    "ObjectPrefix",
    "ObjectRef",
    "Quantiles",
    "QueueStatus",
    "QueuesStatus",
    "RanOn",
    "Retries",
    "RunningStatus",
    "Timeout",
    "TooLarge",
    "TooManyRequests",
    "Transfer",
    "TransferFailed",
    "Unauthorized",
    "Unavailable",
    "Upload",
    "WebhookDelivery",
    "WebhookTry",
    "WorkerStatus",
]
