"""Each kind of fault, done: what is broken, whom it may hit, and how it is mended when its time is over."""

import json
import random
import signal
from collections.abc import Callable, Sequence
from functools import partial

import psycopg
import redis

from fleet.contracts import Lane, Pool
from fleet.queues import queues
from soak import record
from soak.plan import FaultKind, PlannedFault
from soak.submitters import Trap
from soak.timetable import Timetable
from tests.support.faults import Breakable
from tests.support.tcp_proxy import Proxy
from tests.support.whole_fleet import FleetProcess, WholeFleet

_TRAP_S = 15.0
#: Between two workers of a rolling restart.
_ROLL_S = 8.0
#: The workers whose runs may suffer, and a remark; None when there was nothing to break.
Outcome = tuple[Sequence[FleetProcess], str] | None


class Actions:
    """`do` breaks, `forget` is for when everything was mended otherwise."""

    def __init__(
        self,
        fleet: WholeFleet,
        servers: Breakable,
        trap: Trap,
        times: Timetable,
        dice: random.Random,
        also_hit: Callable[[PlannedFault, Sequence[FleetProcess]], None],
    ) -> None:
        """`also_hit` is told of the further hits of a fault that comes in several."""
        self._fleet = fleet
        self._servers = servers
        self._trap = trap
        self._times = times
        self._dice = dice
        self._also_hit = also_hit
        #: What is broken now; a second fault of the same thing is left out.
        self._broken: set[str] = set()

    def do(self, fault: PlannedFault) -> Outcome:
        try:
            return _ACTIONS[fault.kind](self, fault)
        except (redis.RedisError, psycopg.Error):
            # The server that was to suffer is just down, or starting.
            return None

    def forget(self) -> None:
        self._broken.clear()

    def _break(self, what: str, fault: PlannedFault, mend: Callable[[], None]) -> bool:
        """False when it is broken already; else it is mended when the fault is over."""
        if what in self._broken:
            return False
        self._broken.add(what)

        def over() -> None:
            self._broken.discard(what)
            mend()

        self._times.after(fault.lasts_s, over)
        return True

    @property
    def _all(self) -> list[FleetProcess]:
        return self._fleet.workers

    def _victims(self, fault: PlannedFault) -> list[FleetProcess]:
        return self._fleet.processes if fault.victim < 0 else [self._fleet.workers[fault.victim]]

    def _busy(self, fault: PlannedFault) -> FleetProcess:
        """The worker that is to suffer: one of those that run a job, where there is one."""
        try:
            names = record.busy_workers(self._fleet.settings.database_dsn)
        except psycopg.Error:
            names = set()
        busy = [worker for worker in self._all if worker.name in names] or self._all
        return busy[fault.victim % len(busy)]

    def _worker_signal(self, fault: PlannedFault, number: signal.Signals) -> Outcome:
        worker = self._busy(fault)
        if worker.ended or f"{worker.name} frozen" in self._broken:
            return None
        worker.signal(number)
        return [worker], ""

    def _kill(self, fault: PlannedFault) -> Outcome:
        return self._worker_signal(fault, signal.SIGKILL)

    def _terminate(self, fault: PlannedFault) -> Outcome:
        return self._worker_signal(fault, signal.SIGTERM)

    def _freeze(self, fault: PlannedFault) -> Outcome:
        worker = self._busy(fault)
        if worker.ended or not self._break(f"{worker.name} frozen", fault, lambda: worker.signal(signal.SIGCONT)):
            return None
        worker.signal(signal.SIGSTOP)
        return [worker], ""

    def _roll(self, fault: PlannedFault) -> Outcome:
        def next_one(worker: FleetProcess) -> None:
            worker.signal(signal.SIGTERM)
            self._also_hit(fault, [worker])

        first, *others = self._all
        for place, worker in enumerate(others, start=1):
            self._times.after(place * _ROLL_S, partial(next_one, worker))
        first.signal(signal.SIGTERM)
        return [first], ""

    def _kill_api(self, _: PlannedFault) -> Outcome:
        self._fleet.api.signal(signal.SIGKILL)
        return [], ""

    def _terminate_api(self, _: PlannedFault) -> Outcome:
        self._fleet.api.signal(signal.SIGTERM)
        return [], ""

    def _trap_api(self, _: PlannedFault) -> Outcome:
        if self._fleet.api.ended or self._trap.armed:
            return None
        self._trap.arm(self._fleet.api)
        self._times.after(_TRAP_S, self._trap.disarm)
        return [], ""

    def _trap_unpublished(self, fault: PlannedFault) -> Outcome:
        link = self._fleet.api.links.redis
        if self._trap_api(fault) is None:
            return None
        link.swallow()

        def release_when_sprung() -> None:
            if self._trap.armed:
                self._times.after(0.1, release_when_sprung)
            else:
                link.release()

        release_when_sprung()
        return [], ""

    def _flush(self, _: PlannedFault) -> Outcome:
        return self._if_redis(self._servers.flush_redis)

    def _kill_connections(self, _: PlannedFault) -> Outcome:
        return self._if_redis(self._servers.kill_redis_connections)

    def _if_redis(self, act: Callable[[], object]) -> Outcome:
        if "redis" in self._broken:
            return None
        act()
        return self._all, ""

    def _restart_redis(self, fault: PlannedFault) -> Outcome:
        server = self._servers.redis_server
        if not self._break("redis", fault, lambda: self._servers.start(server)):
            return None
        self._servers.kill_redis()
        return self._all, ""

    def _restart_postgres(self, fault: PlannedFault) -> Outcome:
        server = self._servers.postgres_server
        if not self._break("postgres", fault, lambda: self._servers.start(server)):
            return None
        self._servers.stop_postgres(crash=fault.kind is FaultKind.POSTGRES_CRASH)
        return self._all, ""

    def _end_sessions(self, _: PlannedFault) -> Outcome:
        if "postgres" in self._broken:
            return None
        return self._all, f"{self._servers.end_sessions()} sessions"

    def _stop_objects(self, fault: PlannedFault) -> Outcome:
        server = self._servers.object_server
        if not self._break("objects", fault, lambda: self._servers.start(server)):
            return None
        self._servers.stop_objects()
        return self._all, ""

    def _swallow(self, fault: PlannedFault) -> Outcome:
        victims = self._victims(fault)
        links = [_link(process, fault.kind) for process in victims]

        def mend() -> None:
            for link in links:
                link.release()

        if not self._break(f"{fault.kind} {fault.victim}", fault, mend):
            return None
        for link in links:
            link.swallow()
        return [process for process in victims if process in self._all], _names(victims)

    def _strand(self, fault: PlannedFault) -> Outcome:
        victims = self._victims(fault)
        stranded = sum(process.links.redis.strand() for process in victims)
        return [process for process in victims if process in self._all], f"{stranded} links of {_names(victims)}"

    def _lose_messages(self, _: PlannedFault) -> Outcome:
        return self._with_messages(lambda client, name, text: client.lrem(name, 1, text))

    def _double_messages(self, _: PlannedFault) -> Outcome:
        return self._with_messages(lambda client, name, text: client.lpush(name, text, text))

    def _with_messages(self, act: Callable[["redis.Redis", str, str], object]) -> Outcome:
        if "redis" in self._broken:
            return None
        touched = 0
        url = self._fleet.settings.redis_url.get_secret_value()
        with redis.Redis.from_url(url, decode_responses=True, socket_timeout=5) as client:
            for name in queues(Pool, Lane):
                for text in client.lrange(name, 0, -1):
                    if self._dice.random() < 0.5 and json.loads(text):
                        act(client, name, text)
                        touched += 1
        return self._all, f"{touched} messages"


_ACTIONS: dict[FaultKind, Callable[[Actions, PlannedFault], Outcome]] = {
    FaultKind.WORKER_KILL: Actions._kill,
    FaultKind.WORKER_FREEZE: Actions._freeze,
    FaultKind.WORKER_TERM: Actions._terminate,
    FaultKind.ROLLING_RESTART: Actions._roll,
    FaultKind.API_KILL: Actions._kill_api,
    FaultKind.API_TERM: Actions._terminate_api,
    FaultKind.API_KILL_AFTER_202: Actions._trap_api,
    FaultKind.API_KILL_UNPUBLISHED: Actions._trap_unpublished,
    FaultKind.REDIS_FLUSH: Actions._flush,
    FaultKind.REDIS_RESTART: Actions._restart_redis,
    FaultKind.REDIS_CONNECTIONS: Actions._kill_connections,
    FaultKind.REDIS_SWALLOWED: Actions._swallow,
    FaultKind.REDIS_STRANDED: Actions._strand,
    FaultKind.MESSAGES_LOST: Actions._lose_messages,
    FaultKind.MESSAGES_DOUBLED: Actions._double_messages,
    FaultKind.POSTGRES_RESTART: Actions._restart_postgres,
    FaultKind.POSTGRES_CRASH: Actions._restart_postgres,
    FaultKind.POSTGRES_SESSIONS: Actions._end_sessions,
    FaultKind.POSTGRES_SWALLOWED: Actions._swallow,
    FaultKind.OBJECTS_DOWN: Actions._stop_objects,
    FaultKind.OBJECTS_SWALLOWED: Actions._swallow,
}


def _link(process: FleetProcess, kind: FaultKind) -> Proxy:
    links = process.links
    return {FaultKind.REDIS_SWALLOWED: links.redis, FaultKind.POSTGRES_SWALLOWED: links.postgres}.get(
        kind, links.objects
    )


def _names(processes: Sequence[FleetProcess]) -> str:
    return ", ".join(process.name for process in processes)
