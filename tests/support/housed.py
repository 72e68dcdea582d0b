"""Versions brought in as a worker does it: claimed, and finished or failed, without its work."""

from typing import Any

from fleet.contracts import Pool
from fleet.model_records import HousedVersion, ModelRecords, StoredFile
from tests.support.front_door import card


def claimed(records: ModelRecords, lease_s: float = 30.0) -> HousedVersion:
    """The next one, taken up by a worker."""
    held = records.claim_import("test-worker", Pool.CPU, lease_s)
    assert held is not None
    return held


def finished(records: ModelRecords, held: HousedVersion, **changes: Any) -> None:
    """Ready, with a card."""
    file = StoredFile(
        path="model.onnx", size=1000, sha256="a" * 64, key=f"models/{held.name}/{held.version}/model.onnx"
    )
    made = card(held.name, held.version, **changes)
    assert records.finish_import(held, [file], made, {"load_s": 0.1})
