"""The local stack: real servers, api and workers on one data folder. `fleet up`, the tests and demos use it.

    with Stack(Path("data"), workers=1, port=0) as stack:
        httpx.get(stack.url + "/readyz")

Order of the start: broker, PostgreSQL and S3 at once → migrations → api and workers at once. The stop is ordered
the other way round: workers, api, S3, PostgreSQL, broker.
"""

import os
import shutil
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cli.stack import discovery, identity, reap, seaweedfs, state
from cli.stack.blueprint import Blueprint, Options
from cli.stack.burials import Burials
from cli.stack.child import Child
from cli.stack.external import External
from cli.stack.interruption import Interruption
from cli.stack.journal import Journal, Listener
from cli.stack.layout import Layout
from cli.stack.lock import DataLock
from cli.stack.logs import LogLimit, rotate
from cli.stack.ports import LOOPBACK
from cli.stack.status import StackStatus, child_status, write_status
from cli.stack.supervisor import Supervisor
from fleet.settings import Settings

_TICK_S = 0.2
_BURIAL_S = 3.0
_LOW_DISK_BYTES = 2 * 1024**3


class Stack:
    """A context manager; inside the block everything answers. Start and stop it in the main thread.

    `external` names servers that run elsewhere, `base` holds the settings of the user's own environment.
    The other options are those of `Options`.
    """

    def __init__(
        self,
        data: Path,
        *,
        api: bool = True,
        workers: int = 1,
        host: str = LOOPBACK,
        port: int | None = None,
        models: Path | None = None,
        external: External | None = None,
        environment: Mapping[str, str] | None = None,
        durable: bool = True,
        base: Settings | None = None,
        start_limit_s: float = 120.0,
        log_limit: LogLimit | None = None,
        interruption: Interruption | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.layout = Layout(data)
        self.interruption = interruption or Interruption()
        self._options = Options(
            api, workers, host, port, models, external or External(), dict(environment or {}), durable
        )
        self._base = base or Settings()
        self._start_limit_s = start_limit_s
        self._log_limit = log_limit or LogLimit()
        self._lock = DataLock(self.layout.lock_file)
        self._journal = Journal(self.layout.supervisor_log, listener)
        self._state = state.State()
        self._plan: Blueprint | None = None
        self._supervisor: Supervisor | None = None
        self._phase = "starting"
        self._started_at = datetime.now(UTC)
        self._begun = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def plan(self) -> Blueprint:
        """What this stack consists of. Raises RuntimeError before the start."""
        if self._plan is None:
            raise RuntimeError("the stack is not started")
        return self._plan

    @property
    def url(self) -> str:
        """The api's base URL, to be used on this machine. Raises RuntimeError in a stack without an api."""
        if self.plan.front_door is None:
            raise RuntimeError("this stack has no api")
        return self.plan.front_door.url

    @property
    def api_key(self) -> str | None:
        """The key that was generated for this stack, if its api asks for one."""
        door = self.plan.front_door
        return door.api_key if door is not None else None

    @property
    def environment(self) -> dict[str, str]:
        """Settings by their names in the environment, as api and workers get them. Holds secrets."""
        return self.plan.environment

    @property
    def pids(self) -> dict[str, int]:
        """Of the children that run, by name: valkey, postgres, seaweedfs, api, worker-1-bulk, ..."""
        return {child.name: child.pid for child in self._children() if child.pid is not None}

    def child(self, name: str) -> Child:
        """One of its processes, by its name in `pids`. Raises KeyError for a name that this stack does not have."""
        return {child.name: child for child in self._children()}[name]

    def settings(self) -> Settings:
        """What a process of this stack reads; `.env` is left out."""
        return self.plan.settings

    def status(self) -> StackStatus:
        """What `fleet status` shows."""
        plan = self.plan
        return StackStatus(
            pid=os.getpid(),
            started=identity.started(os.getpid()) or "",
            started_at=self._started_at,
            phase=self._phase,
            data=self.layout.root,
            url=plan.front_door.url if plan.front_door is not None else None,
            addresses=plan.addresses(),
            external=sorted(self._options.external.settings),
            notes=plan.notes,
            children=[child_status(child) for child in self._children()],
        )

    def start(self) -> None:
        """Returns when everything answers.

        Raises Conflict `data-in-use`; ValidationFailed, NotFound and DependencyError for what cannot work;
        RunStopped `interrupted`. Nothing is left running then.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start a Stack in the main thread: its servers end with the thread that started them")
        self.layout.create()
        self._lock.take()
        try:
            self._bring_up()
        except BaseException:
            self.stop()
            raise

    def tick(self) -> None:
        """One round of watching: starts again what ended, checks health, rotates logs."""
        if self._supervisor is not None:
            self._supervisor.tick()
            rotate(self.layout.supervisor_log, self._log_limit)

    def supervise(self) -> None:
        """Watches until a stop is asked for."""
        while not self.interruption.requested:
            self.tick()
            time.sleep(_TICK_S)

    def stop(self) -> None:
        """Ends everything in order; the data stays. Safe to call twice."""
        if self._supervisor is not None:
            self._enter("stopping")
            self._supervisor.stop()
            self._supervisor = None
            seaweedfs.remove_sockets(self._state)
            self._journal.write("stack stopped")
        if self._lock.held:
            self.layout.client_file.unlink(missing_ok=True)
            self.layout.status_file.unlink(missing_ok=True)
            self._lock.release()

    def _bring_up(self) -> None:
        self._begun = time.monotonic()
        ended = reap.reap(self.layout.pids_file)
        if ended:
            self._journal.write("ended processes of a former run", names=",".join(ended))
        self._state = state.load(self.layout)
        self._state.complete(self._options.port_roles)
        plan = self._plan = Blueprint(self._options, self.layout, self._state, self._base)
        state.save(self.layout, self._state)
        self._warn_of_low_disk(plan)
        servers = [[Child(service, self.layout.log(service.name))] for service in plan.servers(self.interruption)]
        api = [Child(service, self.layout.log(service.name)) for service in plan.api()]
        burials = Burials(plan.inherited, Path.cwd(), quiet=True)
        workers = [Child(service, self.layout.log(service.name)) for service in plan.workers(burials)]
        self._supervisor = supervisor = Supervisor(
            [*servers, api, workers],
            self._journal,
            reap.PidFile(self.layout.pids_file),
            self.interruption,
            log_limit=self._log_limit,
            ports_of=lambda child: [self._state.ports[role] for role in child.service.ports],
            replace_ports=self._replace_ports,
            on_change=self._publish,
            # While the record is still there.
            on_group_stopped=lambda: burials.settle(_BURIAL_S),
        )
        self._options.external.check()
        # The slowest first; PostgreSQL may have a cluster to make meanwhile.
        supervisor.launch([child for group in reversed(servers) for child in group])
        supervisor.wait_ready([child for group in servers for child in group], self._start_limit_s)
        if api or workers:
            self._migrate()
            supervisor.launch([*api, *workers])
            supervisor.wait_ready([*api, *workers], self._start_limit_s)
        if plan.front_door is not None:
            discovery.publish(self.layout, self.url, self.api_key, pid=os.getpid())
        self._enter("running")
        self._journal.write("stack healthy", after_s=round(time.monotonic() - self._begun, 2))

    def _migrate(self) -> None:
        from fleet.migrate import migrate

        applied = migrate(self.settings().database_dsn)
        if applied:
            self._journal.write("database migrated", migrations=applied)

    def _replace_ports(self, child: Child) -> None:
        self._state.replace_ports(child.service.ports)
        state.save(self.layout, self._state)

    def _children(self) -> list[Child]:
        return self._supervisor.children if self._supervisor is not None else []

    def _warn_of_low_disk(self, plan: Blueprint) -> None:
        free = shutil.disk_usage(self.layout.root).free
        if free < _LOW_DISK_BYTES:
            plan.notes.append(
                f"only {free // 1024**2} MiB are free on the disk of {self.layout.root}: on a full disk the "
                "servers refuse to write"
            )

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._publish()

    def _publish(self) -> None:
        try:
            write_status(self.layout.status_file, self.status())
        except OSError as error:
            # It only informs; what it informs about must go on, on a full disk as well.
            self._journal.write("status.json cannot be written", reason=error)
