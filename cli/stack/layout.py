"""The data folder of a local stack: what lies where, and who may read it.

stack.json    ports, generated secrets, PostgreSQL major       0600, kept
client.json   URL and key for `fleet submit` and friends       0600, while it runs
status.json   what runs now; no secrets                        0600, while it runs
pids.json     children to end after a crash of the supervisor  0600, while it runs
valkey/  postgres/  objects/     the data of the three servers
logs/    scratch/  run/          logs by process; working files; ready files
"""

import os
from pathlib import Path

from fleet.errors import ValidationFailed

#: Where a stack keeps its data when nothing else is said.
DEFAULT_DATA = Path("~/.local/share/fleet")


class Layout:
    """Paths below one data folder. Making a Layout touches nothing on disk; `create` does."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.lock_file = self.root / ".lock"
        self.state_file = self.root / "stack.json"
        self.client_file = self.root / "client.json"
        self.status_file = self.root / "status.json"
        self.pids_file = self.root / "pids.json"
        self.valkey = self.root / "valkey"
        self.postgres = self.root / "postgres"
        self.objects = self.root / "objects"
        self.logs = self.root / "logs"
        self.scratch = self.root / "scratch"
        self.run = self.root / "run"
        self.models = self.root / "models"
        self.supervisor_log = self.logs / "supervisor.log"

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    def create(self) -> None:
        """Makes the folders, closed to other users. Raises ValidationFailed `data-folder-unusable`."""
        try:
            for folder in (self.root, self.valkey, self.postgres, self.objects, self.logs, self.scratch, self.run):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.root.stat().st_uid
            if owner != os.geteuid():
                raise ValidationFailed(
                    f"the data folder {self.root} belongs to user id {owner}, and you are {os.geteuid()}: "
                    "run as its owner or choose another folder with --data",
                    code="data-folder-unusable",
                )
            self.root.chmod(0o700)
        except OSError as error:
            raise ValidationFailed(
                f"the data folder {self.root} cannot be used: {error.strerror} ({error.filename}): "
                "choose another folder with --data",
                code="data-folder-unusable",
            ) from error
