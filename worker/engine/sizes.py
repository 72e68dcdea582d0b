"""What each model takes once it is loaded, and how long loading takes: a guess from its file, until it was measured.

Measured on a CPU (ONNX Runtime 1.31): a network of plain matrices holds 1.1 times its file, one that keeps float16 and
computes in float32 four times; what is read and not needed any more is given back (`trim`).
"""

from collections import deque
from dataclasses import dataclass, field

from worker.engine.model_folder import ModelVersion
from worker.memory.limit import MIB

#: Of measurements, the largest counts: of so many.
_KEPT = 3
#: What a session takes however small it is.
_LEAST = MIB
#: What loads a file of weights at least as fast, besides what every load takes.
_BYTES_PER_S, _EVERY_LOAD_S = 500e6, 0.02


@dataclass
class _Known:
    bytes: deque[int] = field(default_factory=lambda: deque(maxlen=_KEPT))
    load_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))


class Sizes:
    """Used under the registry's lock. Other files under the same name are another model."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], _Known] = {}

    def bytes_of(self, version: ModelVersion) -> int:
        known = self._of(version)
        return max(known.bytes) if known.bytes else version.size_bytes * 3 // 2 + 8 * MIB

    def load_s(self, version: ModelVersion) -> float:
        known = self._of(version)
        return min(known.load_s) if known.load_s else _EVERY_LOAD_S + version.size_bytes / _BYTES_PER_S

    def learn(self, version: ModelVersion, grown_bytes: int) -> int:
        """From a load that nothing else disturbed; what cannot be true is not believed. What it takes, as known now."""
        least, most = max(_LEAST, version.size_bytes // 4), 8 * version.size_bytes + 64 * MIB
        if grown_bytes <= most:
            self._of(version).bytes.append(max(least, grown_bytes))
        return self.bytes_of(version)

    def learn_seconds(self, version: ModelVersion, seconds: float) -> None:
        self._of(version).load_s.append(seconds)

    def _of(self, version: ModelVersion) -> _Known:
        return self._known.setdefault((version.key, version.size_bytes), _Known())
