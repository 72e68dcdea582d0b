"""What a stack consists of: which processes, with which settings, at which addresses. Nothing here is running."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from cli.stack import fleet_processes, postgres, seaweedfs, valkey
from cli.stack.burials import Burials
from cli.stack.child import Service
from cli.stack.external import External
from cli.stack.front_door import FrontDoor, open_front_door
from cli.stack.interruption import Interruption
from cli.stack.layout import Layout
from cli.stack.ports import LOOPBACK
from cli.stack.shown_address import shown_dsn, shown_url
from cli.stack.state import State
from fleet.errors import ValidationFailed
from fleet.settings import Settings, read_settings


@dataclass(frozen=True)
class Options:
    """What the user asked for. `environment` goes to api and workers on top of everything else."""

    api: bool = True
    #: Processes of each lane.
    workers: int = 1
    host: str = LOOPBACK
    #: None: 8000 or, if that is in use, another; 0: any free one.
    port: int | None = None
    models: Path | None = None
    external: External = field(default_factory=External)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: False leaves out every fsync of PostgreSQL, for data that is thrown away.
    durable: bool = True

    @property
    def port_roles(self) -> list[str]:
        """Roles of the ports that the embedded servers listen on."""
        embedded = {"redis": valkey.PORTS, "database": postgres.PORTS, "s3": seaweedfs.PORTS}
        return [role for server, roles in embedded.items() if server not in self.external for role in roles]


class Blueprint:
    """Made once the state is complete. Raises ValidationFailed for a port, host or models folder that cannot be."""

    def __init__(self, options: Options, layout: Layout, state: State, base: Settings) -> None:
        self._options = options
        self._layout = layout
        self._state = state
        self._base = base
        self.notes: list[str] = []
        self.front_door: FrontDoor | None = None
        self.models: Path | None = None
        if options.api:
            self.front_door = open_front_door(
                base,
                state,
                host=options.host,
                asked_port=options.port,
                embedded_objects="s3" not in options.external,
            )
            self.notes += self.front_door.notes
        if options.api or options.workers:
            self.models = self._models_folder()

    @property
    def environment(self) -> dict[str, str]:
        """Settings by their names in the environment, as api and workers get them. Holds secrets."""
        external, told = self._options.external, dict(self._options.external.environment)
        if "redis" not in external:
            told |= valkey.settings(self._state)
        if "database" not in external:
            told |= postgres.settings(self._state)
        if "s3" not in external:
            told |= seaweedfs.settings(self._state)
        if self.front_door is not None:
            told |= self.front_door.environment
            if not self._base.webhook_secrets.get_secret_value():
                told["WEBHOOK_SECRETS"] = self._state.secrets["webhooks"]
        if self.models is not None:
            told["MODELS_PATH"] = str(self.models)
        return told | dict(self._options.environment)

    @property
    def settings(self) -> Settings:
        return Settings(_env_file=None, **{n.lower(): v for n, v in self.environment.items()})  # type: ignore[arg-type]

    def servers(self, interruption: Interruption) -> list[Service]:
        """The embedded ones, in the order broker, PostgreSQL, S3. Raises NotFound `server-program-missing`."""
        external, durable = self._options.external, self._options.durable
        found = []
        if "redis" not in external:
            found.append(valkey.service(self._layout, self._state))
        if "database" not in external:
            found.append(postgres.service(self._layout, self._state, interruption, durable=durable))
        if "s3" not in external:
            found.append(seaweedfs.service(self._layout, self._state))
        return found

    def api(self) -> list[Service]:
        """One or none."""
        door = self.front_door
        if door is None:
            return []
        inherited = self.inherited
        return [fleet_processes.api(inherited, probe_host=door.reachable_host, port=door.port, workdir=Path.cwd())]

    def workers(self, burials: Burials) -> list[Service]:
        """Raises ValidationFailed `extra-missing` when this environment cannot run one."""
        if self._options.workers and not (find_spec("celery") and find_spec("onnxruntime")):
            raise ValidationFailed(
                "workers need the extra `worker`: install it with `pip install 'onnx-fleet[worker]'`, "
                "or start without workers (--workers 0)",
                code="extra-missing",
            )
        inherited = self.inherited
        # Several stacks may share one external database, and with it one list of workers.
        prefix = f"{socket.gethostname()}-{self._state.stack_id}"
        settings = self._worker_settings
        numbers = range(1, self._options.workers + 1)
        return [
            fleet_processes.worker(
                fleet_processes.worker_name(number, lane),
                lane,
                inherited,
                self._layout,
                unique_name=f"{prefix}-{number}-{lane.value}",
                drain_s=settings.worker_drain_s,
                own_scratch=self._base.worker_scratch is None,
                metrics_port=settings.worker_metrics_port and settings.worker_metrics_port + place,
                workdir=Path.cwd(),
                burials=burials,
            )
            for place, (number, lane) in enumerate(product(numbers, dict.fromkeys(settings.worker_lanes)))
        ]

    @property
    def _worker_settings(self) -> Settings:
        """As a worker reads them, `.env` included. Raises ValidationFailed `invalid-settings`."""
        return read_settings(**{n.lower(): v for n, v in self.environment.items()})

    def addresses(self) -> dict[str, str]:
        """What to show to the user, without any password."""
        settings = self.settings
        told: dict[str, str] = {}
        if self.front_door is not None:
            told |= {"API": self.front_door.url, "docs": f"{self.front_door.url}/docs"}
        scheme = "https" if settings.minio_secure else "http"
        return told | {
            "S3": f"{scheme}://{settings.minio_endpoint}",
            "PostgreSQL": shown_dsn(settings.database_dsn),
            "Redis": shown_url(settings.redis_url.get_secret_value()),
        }

    @property
    def inherited(self) -> dict[str, str]:
        """The whole environment of api and workers."""
        # Handed on, not read: api and workers find LOG_LEVEL and the like in it, and ours override what is theirs.
        return {**os.environ, **self.environment}

    def _models_folder(self) -> Path:
        asked, base = self._options.models, self._base
        if asked is None and ("models_path" in base.model_fields_set or base.models_path.is_dir()):
            asked = base.models_path
        if asked is None:
            self._layout.models.mkdir(mode=0o700, exist_ok=True)
            self.notes.append(f"models are looked for in {self._layout.models}; another place is --models PATH")
            return self._layout.models
        if not asked.is_dir():
            raise ValidationFailed(
                f"the models folder {asked} does not exist: make it, or name another with --models",
                code="models-folder-missing",
            )
        return asked.absolute()
