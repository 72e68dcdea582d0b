"""The keeper: a thread that looks each second what is desired of models, and sees to it that it is so here.

loaded   -> loaded and kept; said again (its generation grew), or with another configuration: loaded anew beside the old
unloaded -> no session is kept; a job that was accepted before still gets one, which then goes
evicted  -> its session goes, once; loaded again when a job needs it
nothing  -> loaded when a job needs it

A worker that was away finds on its return what it missed, since it is the record that says it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fleet.catalogue import ModelState
from fleet.contracts import Lane
from fleet.errors import DependencyError, FleetError, RunStopped, storable
from fleet.logs import get_logger
from fleet.model_records import Desired, ModelRecords
from worker.engine.model_version import overridden
from worker.engine.registry import Registry
from worker.house.disk import Disk
from worker.house.shelf import HouseShelf
from worker.memory.share import Memory
from worker.progress import JobProgress
from worker.stop import StopReason, StopToken

_LOOK_S = 1.0
_FOLDER_S = 2.0
#: What failed for a reason that passes is tried again.
_AGAIN_S = 15.0
_END_S = 5.0
#: Why a worker has nothing to do with a model, ever.
_NOT_MINE = frozenset({"wrong-device", "model-not-found"})
log = get_logger(__name__)


@dataclass(frozen=True)
class _Followed:
    """What came of the last word on a model."""

    desired: Desired
    fault: str = ""
    mine: bool = True
    #: Moment of the monotonic clock from which on it is tried again.
    again_at: float | None = None
    #: Of the fault.
    code: str = ""


class Keeper:
    """`start` and `close` are called by the boot step; `states` by the announcer."""

    def __init__(
        self,
        records: ModelRecords,
        shelf: HouseShelf,
        disk: Disk,
        registry: Registry,
        *,
        memory: Memory,
        lanes: list[Lane],
    ) -> None:
        self._records = records
        self._shelf = shelf
        self._disk = disk
        self._registry = registry
        self._memory = memory
        self._lanes = lanes
        self._announce: Callable[[], object] = lambda: None
        self._stop = StopToken()
        self._revision: int | None = None
        self._desires: dict[str, Desired] = {}
        self._followed: dict[str, _Followed] = {}
        self._folder_at = 0.0
        #: What changed here has not reached the record yet, which may be away.
        self._untold = False
        self._work = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(work,), name=name, daemon=True)
            for name, work in (("keeper", self._look), ("keeper-loads", self._follow))
        ]

    def start(self, announce: Callable[[], object]) -> None:
        """`announce` is called whenever others should hear of what is here now."""
        self._announce = announce
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set(StopReason.DRAINED)
        for thread in self._threads:
            thread.join(_END_S)

    def states(self) -> dict[str, ModelState]:
        """Of every model that was asked for here, and is for this worker."""
        told = {}
        followed = dict(self._followed)
        for key, state in self._registry.states().items():
            last = followed.get(key)
            if last is None or last.mine:
                told[key] = ModelState(
                    state=state["state"],
                    reason=_kept(state["reason"] or (last.fault if last else "")),
                    code=last.code if last else "",
                    generation=last.desired.generation if last else 0,
                    memory_bytes=state["memory_bytes"],
                    provider=state["provider"],
                    choice=state["choice"],
                    fallback=state["fallback"],
                )
        for key, last in followed.items():
            if last.mine and key not in told:
                told[key] = ModelState(
                    state="UNAVAILABLE",
                    reason=_kept(last.fault or "unloaded"),
                    code=last.code,
                    generation=last.desired.generation,
                )
        return told

    def _keep(self, work: Callable[[], None]) -> None:
        while not self._stop.wait(_LOOK_S if work == self._look else 0.0):
            try:
                work()
            except RunStopped:
                return
            except DependencyError as error:
                log.debug("what is desired could not be read", code=error.code)
            except Exception:
                # Nobody else would do it: this thread outlives whatever comes.
                log.exception("keeping to what is desired failed")
                self._stop.wait(_LOOK_S)

    def _look(self) -> None:
        if time.monotonic() >= self._folder_at:
            self._folder_at = time.monotonic() + _FOLDER_S
            if self._registry.repository.look():
                log.info("model repository read again", models=self._registry.repository.keys)
                self._untold = True
        revision = self._records.revision()
        if revision != self._revision:
            if self._shelf.look():
                log.info("the house has changed", models=[f"{name}/{version}" for name, version in self._shelf.keys])
                self._untold = True
            self._desires = {desired.key: desired for desired in self._records.desires()}
            self._revision = revision
            self._forget()
        self._unload()
        self._disk.let_go(self._registry.loaded)
        self._work.set()
        if self._untold:
            self._announce()
            self._untold = False

    def _forget(self) -> None:
        """Desires that are no more."""
        for key, last in list(self._followed.items()):
            if key not in self._desires:
                del self._followed[key]
                self._registry.unpin(key)
                if last.desired.config is not None and not last.fault:
                    # Under its own configuration from now on.
                    self._registry.unload(key, "its configuration was taken back", on_demand=True)

    def _unload(self) -> None:
        known = set(self._registry.repository.keys)
        for key in self._registry.loaded:
            desired = self._desires.get(key)
            if desired is not None and self._is_to_go(desired):
                self._registry.unload(key, "unloaded on request", on_demand=True)
                self._untold = True
            elif key not in known or self._is_replaced(key):
                self._registry.unload(key, "removed", on_demand=True)
                self._untold = True
        for key, desired in self._desires.items():
            if desired.desire != "loaded" and self._is_news(desired) and key in known:
                self._followed[key] = _Followed(desired)
                self._untold = True

    def _is_to_go(self, desired: Desired) -> bool:
        return desired.desire == "unloaded" or (desired.desire == "evicted" and self._is_news(desired))

    def _is_replaced(self, key: str) -> bool:
        """Removed, and brought in anew while nobody looked."""
        serving = self._registry.serving(key)
        return serving is not None and self._shelf.replaced(serving)

    def _is_news(self, desired: Desired) -> bool:
        last = self._followed.get(desired.key)
        if last is None or last.desired != desired:
            return True
        return last.again_at is not None and time.monotonic() >= last.again_at

    def _follow(self) -> None:
        """In a thread of its own: a load may take minutes, and the others are to hear at once."""
        self._work.wait(_LOOK_S)
        self._work.clear()
        for desired in list(self._desires.values()):
            self._stop.check()
            if desired.desire == "loaded" and self._is_news(desired):
                self._load(desired)
                self._announce()

    def _load(self, desired: Desired) -> None:
        last = self._followed.get(desired.key)
        try:
            self._loaded(desired, anew=last is not None and last.desired != desired and not last.fault)
        except RunStopped:
            raise
        except FleetError as error:
            mine = error.code not in _NOT_MINE
            again_at = time.monotonic() + _AGAIN_S if error.retryable and mine else None
            self._followed[desired.key] = _Followed(desired, error.message, mine, again_at, error.code)
            log.log(30 if mine else 10, "model not loaded as desired", model=desired.key, code=error.code)
        except Exception as error:
            # Without a word on it, it would be tried for ever, and nothing that is desired of others.
            log.exception("loading as desired failed unexpectedly", model=desired.key)
            fault = FleetError(f"unexpected {type(error).__name__} in the worker")
            self._followed[desired.key] = _Followed(desired, fault.message, code=fault.code)
        else:
            self._followed[desired.key] = _Followed(desired)
            log.info("model loaded as desired", model=desired.key, generation=desired.generation)

    def _loaded(self, desired: Desired, *, anew: bool) -> None:
        progress = JobProgress(self._stop)
        progress.share = share = self._memory.share(lambda seconds: None)
        try:
            version = self._registry.repository.get(desired.name, desired.version, progress)
            if version.manifest.lane not in self._lanes:
                raise FleetError(f"{desired.key} is served by workers of another lane", code="wrong-device")
            if desired.config is not None:
                self._registry.reload(overridden(version, desired.config), progress)
            elif anew or self._registry.serving(desired.key) is not None:
                self._registry.reload(version, progress)
            else:
                self._registry.load(desired.name, desired.version, progress)
            self._registry.pin(desired.key)
        finally:
            share.release()


def _kept(reason: str) -> str:
    """As the record takes it: it may quote a hostile file."""
    return str(storable(reason))
