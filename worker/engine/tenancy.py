"""Who is in, who uses it, and who has to go: the registry's lock, its sessions and the line of those that want room.

Never calls the process's budget with the lock held: the budget, with its own, asks here for what may go.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from fleet.errors import DependencyError, NoCapableWorker
from fleet.logs import get_logger
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import ModelVersion
from worker.engine.model_room import ModelRoom
from worker.engine.residency import Place
from worker.engine.slots import Gone, Resident, Slot

#: How often one that waits looks whether it is to stop.
TICK_S = 0.1
#: How long the first in line waits for a model to fall idle, until the least missed ones take no new leases; and how
#: long the last that came serves before that, however many stand in line.
_COURTESY_S = 0.5
#: How long it waits when others than this process hold the device's memory.
_PATIENCE_S = 60.0
#: Loads at once: a small one overtakes a large one, and no more than that weighs on those that serve.
_LOADS = 2
log = get_logger(__name__)


class RegistryWatch(Protocol):
    """Told of what comes and goes; quick, from any thread."""

    def model_loaded(self, model: str, seconds: float) -> None: ...

    def model_not_loaded(self, model: str, code: str) -> None: ...

    def model_gone(self, model: str, why: str) -> None: ...


class Unseen:
    """For registries outside of a worker."""

    def model_loaded(self, model: str, seconds: float) -> None:
        pass

    def model_not_loaded(self, model: str, code: str) -> None:
        pass

    def model_gone(self, model: str, why: str) -> None:
        pass


@dataclass
class _Turn:
    """Of one in line, of the monotonic clock: since when it is the first, and since when then nothing comes or goes."""

    first_since: float = 0.0
    still_since: float = 0.0


class Tenancy:
    """Thread-safe. Methods that say so are called with `changed` held."""

    def __init__(self, room: ModelRoom, closed: Callable[[Resident], None]) -> None:
        """`closed` is told of each session that is gone, without the lock."""
        self.changed = threading.Condition()
        self.slots: dict[str, Slot] = {}
        #: No longer in their slots: they end with their last lease.
        self.leaving: list[Resident] = []
        self._room = room
        self._closed = closed
        self._line: list[Place] = []
        self._loading = 0
        #: When the last session came, of the monotonic clock.
        self._came_at = 0.0
        #: Leases and loads so far.
        self._begun = 0

    def slot(self, key: str) -> Slot:
        """With the lock held."""
        return self.slots.setdefault(key, Slot(key))

    def residents(self) -> list[Resident]:
        with self.changed:
            return self._all()

    def lease(self, slot: Slot) -> Resident | None:
        """With the lock held. None when it is not loaded."""
        if slot.resident:
            slot.resident.leases += 1
            self._begun += 1
            self._room.residency.used(slot.resident.place)
            self._watch(slot.resident)
        return slot.resident

    @contextmanager
    def kept(self, key: str) -> Iterator[None]:
        """What is loaded of it does not go while the block runs, which makes the session that is to replace it."""
        with self.changed:
            resident = self.slot(key).resident
            if resident:
                resident.leases += 1
        try:
            yield
        finally:
            if resident:
                self.release(resident)

    def release(self, resident: Resident) -> None:
        with self.changed:
            resident.leases -= 1
            self._note_growth(resident)
            self.changed.notify_all()
            over = resident.leaving is not None and resident.leases == 0
            too_much = self._room.residency.held > self._room.residency.limit
        if over:
            self.drop([resident])
        elif too_much:
            self.make_good()

    def _watch(self, resident: Resident) -> None:
        """What runs take of a device stays with their session, so it is added to what that holds."""
        memory, resident.watched = self._room.memory, None
        if memory.of_device and not self._loading and sum(one.leases for one in self._all()) == 1:
            with suppress(NoCapableWorker):
                resident.watched = (self._begun, memory.held_bytes())

    def _note_growth(self, resident: Resident) -> None:
        watched, resident.watched = resident.watched, None
        if watched is None or watched[0] != self._begun:
            return
        with suppress(NoCapableWorker):
            grown = self._room.memory.held_bytes() - watched[1]
            if grown > 0:
                resident.bytes += grown
                if not self._room.by_count:
                    resident.place.weight += grown
                self._room.sizes.learn(resident.loaded.version, resident.bytes)

    def leave(self, residents: Iterable[Resident], why: Gone, reason: str = "") -> list[Resident]:
        """With the lock held: no new leases from here on. Those that nobody uses, to be dropped without the lock."""
        idle = []
        for resident in residents:
            slot = self.slots[resident.place.key]
            if slot.resident is resident:
                slot.resident, slot.reason = None, reason or slot.reason
            resident.leaving = why
            # What waits for its end is not refused because of it.
            self._room.residency.pin(resident.place, False)
            self.leaving.append(resident)
            if resident.leases == 0:
                idle.append(resident)
        return idle

    def drop(self, residents: Iterable[Resident]) -> None:
        """Each is dropped once: by who took its last lease away, or by who let it leave."""
        for resident in residents:
            try:
                resident.loaded.close()
                self._closed(resident)
            finally:
                with self.changed:
                    self.leaving.remove(resident)
                    self._room.residency.remove(resident.place)
                    self.changed.notify_all()

    def reserve(self, version: ModelVersion, check: Callable[[], None], *, replaces: bool) -> Place:
        """A place for a new session, once there is room: first come, first served.

        replaces: beside the one that is loaded of the model, if it still is.

        Raises ModelError `memory-error` for what can never fit, DependencyError `memory-busy` when others hold the
        memory of the device, and what `check` raises.
        """
        with self.changed:
            place = self._room.place(version)
            place.pinned = place.pinned or self.slot(version.key).pinned
            self._line.append(place)
        turn = _Turn()
        try:
            while not self._took(place, turn, replaces=replaces):
                check()
        finally:
            with self.changed:
                self._line.remove(place)
                self.changed.notify_all()
        return place

    def _took(self, place: Place, turn: "_Turn", *, replaces: bool) -> bool:
        with self.changed:
            if self._line[0] is not place:
                self.changed.wait(TICK_S)
                return False
            replaced = self.slots[place.key].resident if replaces else None
            beside = replaced.place if replaced else None
            serving = {one.place: one for one in self._serving()}
            idle = [at for at, one in serving.items() if one.leases == 0]
            ours = sum(one.place.weight for one in self._all())
            going = self._room.victims(place, idle, beside, ours)
            now, moving = time.monotonic(), len(self._room.residency.places) > len(serving)
            turn.first_since = turn.first_since or now
            turn.still_since = now if moving else turn.still_since or now
            served_s = now - max(turn.first_since, self._came_at)
            if going is None and not self.leaving and served_s > _COURTESY_S:
                # Those that are used without a pause would keep it out for ever.
                going = self._room.victims(place, list(serving), beside, ours)
            if going is None and now - turn.still_since > _PATIENCE_S:
                raise self._busy(place)
            if going == []:
                self._room.residency.add(place)
                return True
            idle_now = self.leave((serving[at] for at in going or []), Gone.ROOM, f"made room for {place.key}")
            if not idle_now:
                self.changed.wait(TICK_S)
        self.drop(idle_now)
        return False

    def _busy(self, place: Place) -> DependencyError:
        return DependencyError(
            f"{place.key} would fit, but other processes hold the memory of the device: stop them",
            code="memory-busy",
            needed_bytes=place.weight,
            budget_bytes=self._room.budget_bytes,
        )

    def give_back(self, place: Place) -> None:
        """The session was not made."""
        with self.changed:
            self._room.residency.remove(place)
            self.changed.notify_all()

    @contextmanager
    def turn(self, check: Callable[[], None]) -> Iterator[None]:
        """One of few loads at once."""
        with self.changed:
            while self._loading >= _LOADS:
                check()
                self.changed.wait(TICK_S)
            self._loading += 1
            self._begun += 1
        try:
            yield
        finally:
            with self.changed:
                self._loading -= 1
                self.changed.notify_all()

    def move_in(self, slot: Slot, resident: Resident) -> None:
        """With the lock held: leased once, for who loaded it."""
        slot.resident, slot.reason = resident, ""
        self._came_at = time.monotonic()
        slot.generation += 1
        self._room.residency.pin(resident.place, slot.pinned or resident.loaded.version.manifest.pin)
        self.lease(slot)
        self.changed.notify_all()

    def make_good(self) -> None:
        """Lets go of what is too much since something turned out larger than expected."""
        with self.changed:
            idle = {one.place: one for one in self._serving() if one.leases == 0}
            going = self.leave((idle[at] for at in self._room.residency.surplus(idle)), Gone.ROOM, "made room")
        self.drop(going)

    def pin(self, key: str, *, pinned: bool) -> None:
        with self.changed:
            if not pinned and key not in self.slots:
                return
            slot = self.slot(key)
            slot.pinned = pinned
            if slot.resident:
                by_author = slot.resident.loaded.version.manifest.pin
                self._room.residency.pin(slot.resident.place, pinned or by_author)

    def may_go_bytes(self, of: LoadedModel | None = None) -> int:
        """Of all of them, or of that one."""
        with self.changed:
            may_go = [one for one in self._serving() if not one.place.pinned]
            return sum(one.bytes for one in may_go if of is None or one.loaded is of)

    def let_go(self, count: int) -> None:
        """Closes idle ones that hold so many bytes together, or all that are idle: those that are missed least."""
        with self.changed:
            idle = {one.place: one for one in self._serving() if one.leases == 0}
            going = []
            for place in self._room.residency.cheapest(1 << 62, idle):
                if count > 0:
                    going.append(idle[place])
                    count -= idle[place].bytes
            going = self.leave(going, Gone.JOB_MEMORY, "made room for a job's own memory")
        self.drop(going)

    def _all(self) -> list[Resident]:
        return [*self._serving(), *self.leaving]

    def _serving(self) -> list[Resident]:
        return [slot.resident for slot in self.slots.values() if slot.resident]
