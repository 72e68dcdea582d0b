"""What a version in shorter numbers costs and brings: `report.json` beside its graph."""

import json
import math
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxruntime as ort

from worker.engine.derivation import REPORT_NAME
from worker.precision.comparison import OutputReport
from worker.precision.convert import Precision


@dataclass(frozen=True)
class Side:
    """One of the two versions: its files' bytes together, the SHA-256 of its graph, its fastest run in seconds."""

    version: int
    graph_sha256: str
    size_bytes: int
    run_s: float


@dataclass(frozen=True)
class Report:
    model: str
    to: Precision
    before: Side
    after: Side
    outputs: tuple[OutputReport, ...]
    #: How many inputs were compared, and where they came from.
    samples: int
    inputs: str
    calibration: str
    #: Where both were run.
    provider: str
    threads: int
    allowed: float
    #: Of the graph that the model's author published.
    origin_sha256: str
    #: What its reader should know.
    notes: tuple[str, ...] = ()
    processor: str = platform.machine()
    onnxruntime: str = ort.__version__
    made_at: str = ""

    @property
    def disagreement(self) -> float:
        """Of the worst output."""
        return max((output.disagreement for output in self.outputs), default=0.0)

    @property
    def agrees(self) -> bool:
        # Not `<=` turned around: what is no number does not agree.
        return self.disagreement <= self.allowed

    @property
    def speedup(self) -> float:
        return self.before.run_s / self.after.run_s

    def as_json(self) -> dict[str, Any]:
        shown = {"disagreement": self.disagreement, "agrees": self.agrees, "speedup": round(self.speedup, 3)}
        return _finite(asdict(self) | shown)  # type: ignore[no-any-return]

    def write(self, folder: Path) -> None:
        (folder / REPORT_NAME).write_text(json.dumps(self.as_json(), indent=1) + "\n", "utf-8")


def notes_on_gain(before: Side, after: Side) -> tuple[str, ...]:
    """What speaks against the new version even where it agrees."""
    slower, larger = after.run_s > before.run_s * 1.05, after.size_bytes > before.size_bytes
    if slower and larger:
        return ("it is slower and larger than the one before: keep that",)
    if slower:
        return ("it is slower than the one before, on this machine",)
    return ("it is larger than the one before",) if larger else ()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _finite(value: Any) -> Any:
    """JSON has no infinity: it is told in words."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
