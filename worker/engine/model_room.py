"""The room that loaded models have: which limit holds, what each takes of it, and what a refusal says."""

from collections.abc import Collection

from fleet.errors import ModelError
from worker.engine.device_memory import DeviceMemory, HostMemory
from worker.engine.eviction import Policy
from worker.engine.model_folder import ModelVersion
from worker.engine.residency import DoesNotFit, Place, Residency
from worker.engine.sizes import Sizes
from worker.memory.budget import shown

_NO_LIMIT = 1 << 62


class ModelRoom:
    """Used under the registry's lock. With `most_models` (CACHE_STRATEGY=fixed_size) models are counted, not sized."""

    def __init__(
        self, memory: DeviceMemory | None = None, *, most_models: int | None = None, policy: Policy | None = None
    ) -> None:
        """Without `memory` there is no limit, as in trials outside of a worker."""
        self.memory = memory or HostMemory(_NO_LIMIT, "nothing")
        self.sizes = Sizes()
        self.by_count = most_models is not None
        self._most = most_models or self.memory.limit_bytes
        self.residency = Residency(self._most, policy, by_count=self.by_count)

    @property
    def budget_bytes(self) -> int:
        """What models may take; 0 without a limit in bytes."""
        return 0 if self.by_count or self._most == _NO_LIMIT else self._most

    def place(self, version: ModelVersion) -> Place:
        weight = 1 if self.by_count else self.sizes.bytes_of(version)
        return Place(version.key, weight, self.sizes.load_s(version), pinned=version.manifest.pin)

    def victims(self, place: Place, idle: Collection[Place], beside: Place | None, ours: int) -> list[Place] | None:
        """As `Residency.victims`; `ours` is what the loaded ones weigh.

        Raises ModelError `memory-error` for what can never come. What others hold of the device may be given back.
        """
        try:
            going = self.residency.victims(place, idle, beside)
        except DoesNotFit as fault:
            raise self._refusal(place, fault, beside) from fault
        if not self.memory.of_device or self.by_count:
            return going
        self.residency.limit = self._most - max(0, self.memory.held_bytes() - ours)
        try:
            return self.residency.victims(place, idle, beside)
        except DoesNotFit:
            return None
        finally:
            # What is here already is not closed for what others take.
            self.residency.limit = self._most

    def _refusal(self, place: Place, fault: DoesNotFit, beside: Place | None) -> ModelError:
        if self.by_count:
            return ModelError(
                f"{place.key} cannot be loaded: CACHE_MAX_MODELS={fault.limit}, and {fault.staying} have to stay. "
                "Raise it, or pin fewer models",
                code="memory-error",
                most_models=fault.limit,
                staying_models=fault.staying,
            )
        stays = ""
        if fault.staying:
            whom = "the session that it is to replace" if beside else "pinned models"
            stays = f", of which {shown(fault.staying)} are held by {whom}{' and pinned ones' if beside else ''}"
        return ModelError(
            f"{place.key} takes an estimated {shown(fault.wanted)} once it is loaded, and models may take "
            f"{shown(fault.limit)} here ({self.memory.limited_by}){stays}. Serve it from a larger worker, raise the "
            "limit, or make it smaller: fleet models quantize",
            code="memory-error",
            needed_bytes=fault.wanted,
            budget_bytes=fault.limit,
            staying_bytes=fault.staying,
        )
