"""The registry: which models are loaded. Sessions, one a graph, are shared by all threads, and kept while they serve.

leased  -> loaded: at once, whatever else is being loaded
        -> not loaded: room is made, the session is made beside those that serve, those who ask meanwhile wait for it
unload  -> no new leases; the session goes with the last one
reload  -> the new session is made beside the old one and takes its place; if it fails, the old one stays
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from fleet.errors import FleetError, NoCapableWorker, NotFound, RunStopped
from fleet.logs import get_logger
from worker.contract import Progress
from worker.engine.cuda_faults import GPU_LOST
from worker.engine.loaded import LoadedModel
from worker.engine.loading import Loader, Made, admitted, refuse_silent_cpu
from worker.engine.model_folder import ModelVersion
from worker.engine.model_room import ModelRoom
from worker.engine.repository import Repository
from worker.engine.residency import Place
from worker.engine.run_watch import RunWatch
from worker.engine.session import SessionSetup
from worker.engine.slots import Gone, Load, Resident, Slot
from worker.engine.tenancy import TICK_S, RegistryWatch, Tenancy, Unseen
from worker.memory.budget import Budget

__all__ = ["Registry", "refuse_silent_cpu"]
log = get_logger(__name__)


class Registry:
    """Thread-safe."""

    def __init__(
        self,
        repository: Repository,
        setup_for: Callable[[ModelVersion], SessionSetup],
        budget: Budget | None = None,
        *,
        room: ModelRoom | None = None,
        speed: float = 1.0,
        watch: RunWatch | None = None,
        seen: RegistryWatch | None = None,
        after_load: Callable[[LoadedModel], None] | None = None,
    ) -> None:
        """`budget` is the process's memory, `room` the part of the device's that is for models.

        speed: the device's, other than 1 only for a simulated GPU. watch: told of each run. seen: told of loads and
        of what had to go. after_load: warms a session before anybody gets it; what it raises is the load's failure.
        """
        self.repository = repository
        self.room = room or ModelRoom()
        self._budget = budget
        self._seen = seen or Unseen()
        self._loader = Loader(setup_for, self.room.memory, budget, speed=speed, watch=watch, after_load=after_load)
        self._tenancy = Tenancy(self.room, self._close)
        self._changed = self._tenancy.changed
        self._slots = self._tenancy.slots
        #: By a session that is no more.
        self._device_lost = False

    @property
    def loaded(self) -> list[str]:
        """Keys "name/version" of what is loaded now."""
        with self._changed:
            return sorted(key for key, slot in self._slots.items() if slot.resident)

    @property
    def device_lost(self) -> bool:
        """Whether a run has taken the device's context with it: nothing in this process can run on it any more."""
        return self._device_lost or any(one.loaded.device_lost for one in self._tenancy.residents())

    def fell_back(self) -> bool:
        """Whether a session was refused since the last call that had become one for the CPU: is the GPU still there?"""
        return self._loader.fell_back()

    def states(self) -> dict[str, dict[str, Any]]:
        """Of every model that was ever asked for here: state, reason, generation, memory and leases."""
        with self._changed:
            leaving = [resident.place.key for resident in self._tenancy.leaving]
            return {key: slot.told(leaving.count(key)) for key, slot in sorted(self._slots.items())}

    @property
    def held_bytes(self) -> int:
        """What all loaded models hold, as far as is known."""
        return sum(resident.bytes for resident in self._tenancy.residents())

    def serving(self, key: str) -> ModelVersion | None:
        """The version as it was when what is loaded was made; None when it is not loaded."""
        with self._changed:
            slot = self._slots.get(key)
            return slot.resident.loaded.version if slot and slot.resident else None

    @contextmanager
    def leased(self, name: str, version: int, progress: Progress | None = None) -> Iterator[LoadedModel]:
        """The model, loaded, and kept while the block runs. Waits as long as `progress.check` lets it.

        Raises NotFound when this worker does not hold it, ModelError when it cannot be loaded, with `memory-error`
        when it can never fit; NoCapableWorker `gpu-unusable` when it was to run on the GPU and would run on the CPU,
        and `model-unloaded` when it was unloaded on request. With `progress`, that of the run that needs it, the
        process's memory is asked for first.
        """
        resident = self._acquire(name, version, progress)
        try:
            yield resident.loaded
        finally:
            self._tenancy.release(resident)

    def load(self, name: str, version: int, progress: Progress | None = None) -> LoadedModel:
        """As `leased`, without a lease, and also what was unloaded on request: it serves again from here on."""
        with self._changed:
            slot = self._tenancy.slot(f"{name}/{version}")
            slot.closed = False
            if slot.load:
                slot.load.unloaded = None
        resident = self._acquire(name, version, progress)
        self._tenancy.release(resident)
        return resident.loaded

    def reload(self, version: ModelVersion, progress: Progress | None = None) -> LoadedModel:
        """Makes a new session beside the old one and puts it in its place; from now on this version is what is loaded.

        When that fails, the old one stays, `states` has the reason, and what was wrong is raised as from `leased`.
        """
        check = progress.check if progress else _nothing
        while True:
            with self._changed:
                slot = self._tenancy.slot(version.key)
                if slot.load is None:
                    load = slot.load = Load(given=version)
                    slot.closed = False
                    break
                self._changed.wait(TICK_S)
            check()
        with ExitStack() as kept:
            resident = self._make(slot, load, lambda: self._resident(version, progress, kept))
        self._tenancy.release(resident)
        return resident.loaded

    def unload(self, key: str, reason: str = "unloaded on request", *, on_demand: bool = False) -> None:
        """Runs that use it finish, and the session goes with the last of them; returns at once.

        on_demand: whether the next job that needs it loads it again; else it is refused until `load` or `reload`.
        """
        with self._changed:
            if on_demand and key not in self._slots:
                return
            slot = self._tenancy.slot(key)
            slot.closed, slot.pinned, slot.given, slot.reason = not on_demand, False, None, reason
            if slot.load:
                slot.load.unloaded = reason
            idle = self._tenancy.leave([slot.resident], Gone.UNLOADED) if slot.resident else []
        self._tenancy.drop(idle)

    def pin(self, key: str) -> None:
        """Kept once it is loaded, whatever else wants the memory."""
        self._tenancy.pin(key, pinned=True)

    def unpin(self, key: str) -> None:
        self._tenancy.pin(key, pinned=False)

    def shrink(self) -> None:
        """Gives back what the loaded models keep from earlier runs."""
        for resident in self._tenancy.residents():
            resident.loaded.shrink()

    def idle_bytes(self, of: LoadedModel | None = None) -> int:
        """Of the process's memory, what models hold that may go, used now or not: all of them, or that one."""
        return 0 if self.room.memory.of_device else self._tenancy.may_go_bytes(of)

    def let_go(self, count: int) -> None:
        """Closes idle models that hold so many bytes, for a job that needs the memory itself."""
        if not self.room.memory.of_device:
            self._tenancy.let_go(count)

    def clear(self) -> None:
        """Closes all of them: at once, or with their last lease."""
        with self._changed:
            residents = [slot.resident for slot in self._slots.values() if slot.resident]
            idle = self._tenancy.leave(residents, Gone.CLOSING)
        self._tenancy.drop(idle)

    def _acquire(self, name: str, version: int, progress: Progress | None) -> Resident:
        key, check = f"{name}/{version}", progress.check if progress else _nothing
        while True:
            with self._changed:
                slot = self._tenancy.slot(key)
                if resident := self._tenancy.lease(slot):
                    return resident
                if slot.closed:
                    raise _unloaded(key, slot.reason)
                load, mine = slot.load or Load(), slot.load is None
                slot.load = load
            if mine:
                return self._make(slot, load, partial(self._on_demand, slot, name, version, progress))
            self._await(load, check)

    def _on_demand(self, slot: Slot, name: str, version: int, progress: Progress | None) -> Resident:
        return self._resident(slot.given or self.repository.get(name, version, progress), progress)

    def _await(self, load: Load, check: Callable[[], None]) -> None:
        """Raises what the load raised; a load whose own run was stopped is begun anew by one that waited."""
        with self._changed:
            while not load.done:
                check()
                self._changed.wait(TICK_S)
        if isinstance(load.error, FleetError) and not isinstance(load.error, RunStopped):
            raise copy.copy(load.error) from load.error

    def _make(self, slot: Slot, load: Load, make: Callable[[], Resident]) -> Resident:
        """Makes the session, in the place of what is in the slot; leased once, for the caller."""
        try:
            resident = make()
        except BaseException as error:
            told = error.message if isinstance(error, FleetError) else type(error).__name__
            with self._changed:
                slot.load, load.done, load.error = None, True, error
                slot.reason = f"reload failed, the one before it stays: {told}" if slot.resident else told
                if isinstance(error, NotFound) and not (slot.resident or slot.pinned or slot.closed):
                    self._slots.pop(slot.key, None)
                self._device_lost |= getattr(error, "code", None) == GPU_LOST
                self._changed.notify_all()
            self._seen.model_not_loaded(slot.key, getattr(error, "code", "internal-error"))
            raise
        with self._changed:
            slot.load, load.done = None, True
            idle = self._tenancy.leave([slot.resident] if slot.resident else [], Gone.RELOADED)
            self._tenancy.move_in(slot, resident)
            slot.given = load.given or slot.given
            refused = slot.closed
            if load.unloaded is not None:
                slot.given = None
                self._tenancy.leave([resident], Gone.UNLOADED, load.unloaded)
        self._tenancy.drop(idle)
        self._tenancy.make_good()
        if refused:
            self._tenancy.release(resident)
            raise _unloaded(slot.key, load.unloaded or "")
        return resident

    def _resident(self, version: ModelVersion, progress: Progress | None, kept: ExitStack | None = None) -> Resident:
        check = progress.check if progress else _nothing
        place = self._tenancy.reserve(version, check, replaces=kept is not None)
        try:
            with self._tenancy.turn(check):
                granted = admitted(version, progress) if progress else 0
                if kept is not None:
                    # Only from here on: in line, it would keep out who stands before it.
                    kept.enter_context(self._tenancy.kept(version.key))
                made = self._loader.make(version, place.weight, granted)
            resident = self._measured(made, place)
        except BaseException:
            self._tenancy.give_back(place)
            raise
        if self._budget and not self.room.memory.of_device:
            self._budget.grew(resident.bytes)
        if progress:
            progress.admit("", 0)
        self._seen.model_loaded(version.key, made.seconds)
        log.info(
            "model loaded",
            model=version.key,
            provider=made.loaded.session.provider,
            seconds=round(made.seconds, 3),
            mib=resident.bytes >> 20,
            measured=made.grown_bytes is not None,
        )
        return resident

    def _measured(self, made: Made, place: Place) -> Resident:
        sizes, version = self.room.sizes, made.loaded.version
        with self._changed:
            sizes.learn_seconds(version, made.seconds)
            taken = sizes.bytes_of(version) if made.grown_bytes is None else sizes.learn(version, made.grown_bytes)
            place.cost_s = sizes.load_s(version)
            if not self.room.by_count:
                place.weight = taken
        return Resident(made.loaded, place, taken)

    def _close(self, resident: Resident) -> None:
        if self._budget and not self.room.memory.of_device:
            self._budget.grew(-resident.bytes)
        self._device_lost |= resident.loaded.device_lost
        assert resident.leaving is not None  # noqa: S101 (only then it is closed)
        self._seen.model_gone(resident.place.key, resident.leaving)
        log.info("model closed", model=resident.place.key, why=resident.leaving.value, mib=resident.bytes >> 20)


def _unloaded(key: str, reason: str) -> NoCapableWorker:
    return NoCapableWorker(f"{key} is not loaded here: {reason}", code="model-unloaded")


def _nothing() -> None:
    pass
