"""The leader's rounds: in every api process, at work in the one that leads.

Four times a second it feeds the queues (`feeder.py`). Once a second it looks at the fleet (`look.py`), writes what it
saw for everybody (`fleet/traffic.py`), and helps jobs that wait too long or in the wrong place (`remedies.py`). What it
does is safe to do twice, so two leaders for a moment are harmless.
"""

import threading
import time
from collections.abc import Callable

from api.cards import Cards
from api.census import Census
from api.feeder import TICK_S, Feeder
from api.look import Look
from api.measures import Measures
from api.remedies import Ageing, Moves
from api.steps import Steps
from fleet.ageing import Budgets
from fleet.catalogue import Catalogue
from fleet.contracts import Lane
from fleet.database import Database
from fleet.routing import Help
from fleet.service_times import ServiceTimes
from fleet.settings import Settings
from fleet.traffic import TrafficBoard

_LOOK_EVERY_S = 1.0
#: Not more often, whoever rings.
_PAUSE_S = 0.05


class Dispatcher:
    """`start` and `close` with the process; `feed` and `look` are one round each."""

    def __init__(
        self,
        *,
        feeder: Feeder,
        look: Look,
        board: TrafficBoard,
        ageing: Ageing,
        moves: Moves,
        steps: Steps,
        leading: Callable[[], bool],
    ) -> None:
        self._feeder = feeder
        self._look = look
        self._board = board
        self._ageing = ageing
        self._moves = moves
        self._steps = steps
        self._leading = leading
        #: Who helps where; None until it is known what the leader before had decided.
        self._help: dict[str, Help] | None = None
        self._rung = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._rung.set()
        self._thread.join()

    def ring(self) -> None:
        """A job was stored that waits for its turn: perhaps it has come already."""
        self._rung.set()

    def _run(self) -> None:
        looked_at = float("-inf")
        while not self._stop.wait(_PAUSE_S):
            if not self._leading():
                self._help = None
                self._stop.wait(TICK_S)
                continue
            self._rung.clear()
            wait_s = self.feed()
            if time.monotonic() - looked_at >= _LOOK_EVERY_S:
                looked_at = time.monotonic()
                self.look()
            self._rung.wait(max(0.0, wait_s - _PAUSE_S))

    def feed(self) -> float:
        """Seconds that the next round may wait."""
        wait_s = TICK_S

        def round_() -> None:
            nonlocal wait_s
            wait_s = self._feeder.round()

        self._steps.run("feed", round_)
        return wait_s

    def look(self) -> None:
        self._steps.run("look", self._see)

    def _see(self) -> None:
        if self._help is None:
            self._help = self._follow()
        fleet, seen = self._look.now(self._help, self._feeder.windows.of)
        self._help = seen.help
        self._board.write(seen)
        self._steps.run("age", lambda: self._ageing.apply(fleet, seen))
        self._steps.run("move", lambda: self._moves.apply(fleet, seen))

    def _follow(self) -> dict[str, Help]:
        """Goes on where the leader before left off."""
        found = self._board.read()
        if found is None:
            return {}
        before, _ = found
        for name, queue in before.queues.items():
            self._feeder.windows.adopt(name, queue.window)
        return before.help


def build_dispatcher(
    settings: Settings,
    database: Database,
    *,
    feeder: Feeder,
    cards: Cards,
    service_times: ServiceTimes,
    board: TrafficBoard,
    measures: Measures,
    leading: Callable[[], bool],
) -> Dispatcher:
    steps = Steps(measures)
    budgets = {
        Lane.INTERACTIVE: Budgets.of(settings.ageing_interactive_s),
        Lane.BULK: Budgets.of(settings.ageing_bulk_s),
    }
    return Dispatcher(
        feeder=feeder,
        look=Look(catalogue=Catalogue(database), cards=cards, census=Census(database), service_times=service_times),
        board=board,
        ageing=Ageing(database, budgets, steps.did),
        moves=Moves(database, steps.did),
        steps=steps,
        leading=leading,
    )
