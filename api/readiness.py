"""Whether jobs can be accepted now: each dependency is asked, all at once, and the answers are kept for a second."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet.errors import FleetError
from fleet.logs import get_logger

_PATIENCE_S = 1.0
_KEEP_S = 1.0
log = get_logger(__name__)


@dataclass(frozen=True)
class Check:
    """`ask` raises when the dependency is not well; `failing` is what that makes of the whole: `warn` or `fail`."""

    ask: Callable[[], None]
    failing: str = "fail"


class Readiness:
    """The form is that of application/health+json. Used by one event loop."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        # Threads of its own: health must be known also when all others are busy.
        self._threads = ThreadPoolExecutor(len(checks), "readiness")
        self._running: dict[str, asyncio.Future[None]] = {}
        self._kept: tuple[float, dict[str, Any]] | None = None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def health(self) -> dict[str, Any]:
        if self._kept is not None and time.monotonic() - self._kept[0] < _KEEP_S:
            return self._kept[1]
        outcomes = await asyncio.gather(*(self._outcome(name) for name in self._checks))
        statuses = {outcome["status"] for outcome in outcomes}
        overall = next((status for status in ("fail", "warn") if status in statuses), "pass")
        checks = {name: [outcome] for name, outcome in zip(self._checks, outcomes, strict=True)}
        if self._kept is None or self._kept[1]["status"] != overall:
            log.info("readiness", status=overall, failing=[n for n, c in checks.items() if c[0]["status"] != "pass"])
        self._kept = time.monotonic(), {"status": overall, "checks": checks}
        return self._kept[1]

    async def _outcome(self, name: str) -> dict[str, Any]:
        """A stranger may read this: an error's code, and never its message."""
        check, began = self._checks[name], time.monotonic()
        outcome: dict[str, Any] = {"status": "pass", "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        try:
            await asyncio.wait_for(asyncio.shield(self._asked(name)), _PATIENCE_S)
        except TimeoutError:
            outcome |= {"status": check.failing, "output": f"no answer within {_PATIENCE_S:g} s"}
        except FleetError as error:
            outcome |= {"status": check.failing, "output": error.code}
        except Exception:
            log.exception("readiness check failed", check=name)
            outcome |= {"status": check.failing, "output": FleetError.code}
        return outcome | {"observedValue": round((time.monotonic() - began) * 1000, 1), "observedUnit": "ms"}

    def _asked(self, name: str) -> asyncio.Future[None]:
        """The question, or the one before it that still has no answer: threads cannot be ended, only not piled up."""
        running = self._running.get(name)
        if running is None or running.done():
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._checks[name].ask)
            # An answer that comes too late is nobody's surprise.
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._running[name] = running
        return running
