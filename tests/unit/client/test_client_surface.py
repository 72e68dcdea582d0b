"""What outsiders may import, and what importing costs."""

import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.resources import files
from pathlib import Path

import pytest

import fleet_client
from fleet_client.retry import Retries, parse_retry_after

EXPORTS = {
    "APIError", "Artifact", "Callback", "ChecksumMismatch", "Client", "Conflict", "ConnectionFailed", "Embeddings",
    "FleetError", "FleetStatus", "Forbidden", "Forecast", "ImportFailed", "Input", "InputUnusable",
    "InvalidRequest", "ItemFault", "Job", "JobCancelled", "JobEnded", "JobExpired", "JobFailed", "JobFault",
    "JobItem", "JobRecord", "JobState", "Model", "ModelFiles", "ModelHealth", "ModelMetrics", "ModelOnWorker",
    "ModelStatus", "ModelUsage", "ModelVersion", "ModelVersionStatus", "NotFound", "ObjectPrefix", "ObjectRef",
    "Quantiles", "QueueStatus", "QueuesStatus", "RanOn", "Retries", "RunningStatus", "Timeout", "TooLarge",
    "TooManyRequests", "Transfer", "TransferFailed", "Unauthorized", "Unavailable", "Upload", "WebhookDelivery",
    "WebhookTry", "WorkerStatus",
}  # fmt: skip


def test_exports_are_exactly_these() -> None:
    assert set(fleet_client.__all__) == EXPORTS
    assert len(fleet_client.__all__) == len(EXPORTS)
    assert all(hasattr(fleet_client, name) for name in EXPORTS)


def test_every_error_is_a_fleet_error_in_the_drawn_tree() -> None:
    drawn = fleet_client.errors.__doc__ or ""
    for name in EXPORTS:
        kind = getattr(fleet_client, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, fleet_client.FleetError)
            assert f" {name}" in drawn or name == "FleetError"


def test_the_version_is_that_of_the_distribution() -> None:
    pyproject = Path(__file__).parents[3] / "client" / "pyproject.toml"
    assert tomllib.loads(pyproject.read_text("utf-8"))["project"]["version"] == fleet_client.__version__


def test_types_are_announced() -> None:
    assert (files("fleet_client") / "py.typed").is_file()


def test_the_client_imports_nothing_of_the_server() -> None:
    code = "import fleet_client, sys; print(*{'fleet', 'api', 'worker', 'cli', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_pauses_grow_to_a_ceiling_and_differ() -> None:
    retries = Retries(first_s=1, longest_s=8)
    for failures, ceiling in [(0, 1), (1, 2), (2, 4), (3, 8), (50, 8)]:
        pauses = {retries.pause_s(failures) for _ in range(20)}
        assert ceiling / 2 <= min(pauses) <= max(pauses) <= ceiling
        assert len(pauses) > 1


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("", None), ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None)]
)
def test_retry_after_is_read(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=100)
    seconds = parse_retry_after(format_datetime(soon, usegmt=True))
    assert seconds is not None
    assert 90 < seconds <= 100
    assert parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
