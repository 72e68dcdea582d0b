"""What the registry knows of each model: its session, the load under way, and what is to be done with it.

             ┌───────────────── unloaded, evicted, load failed ─────────────────┐
             ▼                                                                    │
UNAVAILABLE ───▶ LOADING ───▶ READY ───▶ UNLOADING (its last runs end) ───────────┤
                                └── nobody uses it ───────────────────────────────┘
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import ModelVersion
from worker.engine.residency import Place


class ModelState(StrEnum):
    """Triton's words."""

    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class Gone(StrEnum):
    """Why a session was closed; a label of the metrics."""

    ROOM = "room"
    JOB_MEMORY = "job-memory"
    UNLOADED = "unloaded"
    RELOADED = "reloaded"
    CLOSING = "closing"


@dataclass(eq=False)
class Resident:
    """One session that is loaded. `leases` counts those that use it now."""

    loaded: LoadedModel
    place: Place
    #: What it holds, as far as is known, whatever the limit counts.
    bytes: int
    leases: int = 0
    #: On a device, when it was leased while nothing else went on: which lease that was, and what was held then.
    watched: tuple[int, int] | None = None
    #: Why it is to go; no new leases then.
    leaving: Gone | None = None


@dataclass(eq=False)
class Load:
    """One load under way; `error` is how it failed, for those who waited for it."""

    #: What a reload brings in the place of the repository's version.
    given: ModelVersion | None = None
    done: bool = False
    error: BaseException | None = None
    #: Why what it makes is to go again: the model was unloaded meanwhile.
    unloaded: str | None = None


@dataclass(eq=False)
class Slot:
    key: str
    resident: Resident | None = None
    load: Load | None = None
    pinned: bool = False
    #: Unloaded on request: not loaded again because a job needs it.
    closed: bool = False
    #: The version as the last reload gave it, in the place of the repository's.
    given: ModelVersion | None = None
    #: Why it is not loaded, or why a reload of it failed.
    reason: str = ""
    #: Counts the sessions that were made.
    generation: int = 0

    def told(self, leaving: int) -> dict[str, Any]:
        """As a row of the worker says it; `leaving`: sessions of it that end with their last runs."""
        state = ModelState.UNAVAILABLE
        if self.resident is not None:
            state = ModelState.READY
        elif self.load is not None:
            state = ModelState.LOADING
        elif leaving:
            state = ModelState.UNLOADING
        resident = self.resident
        return {
            "state": state.value,
            "reason": self.reason,
            "generation": self.generation,
            "memory_bytes": resident.bytes if resident else 0,
            "provider": resident.loaded.session.provider if resident else "",
            "choice": resident.loaded.setup.why if resident else "",
            "fallback": resident.loaded.fallback if resident else "",
            "leases": resident.leases if resident else 0,
            "pinned": self.pinned or (resident is not None and resident.place.pinned),
            #: Whether the next job that needs it loads it.
            "on_demand": not self.closed,
        }
