"""`stack.json`: what a local stack must remember between runs. It holds every generated secret: mode 0600."""

import json
import secrets
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cli.stack import ports
from cli.stack.layout import Layout
from cli.stack.private_file import write_private
from fleet.errors import ValidationFailed
from fleet.webhook_keys import written

#: name -> bytes of randomness. The `seaweedfs_jwt_*` close its internal HTTP ports to other local processes.
_SECRETS = {
    "redis": 24,
    "postgres": 24,
    "s3_secret": 30,
    "seaweedfs_jwt_write": 32,
    "seaweedfs_jwt_read": 32,
    "seaweedfs_jwt_filer_write": 32,
    "seaweedfs_jwt_filer_read": 32,
}


class State(BaseModel):
    """Ports by role, secrets by role, and what the data on disk was made with."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    format: Literal[1] = 1
    #: Tells the workers of several stacks apart when they share an external database.
    stack_id: str = Field(default_factory=lambda: secrets.token_hex(3))
    ports: dict[str, int] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict, repr=False)
    postgres_major: int | None = None
    api_key: str | None = Field(default=None, repr=False)

    def complete(self, port_names: Iterable[str]) -> None:
        """Fills in missing secrets, and gives every role a port that is free now."""
        generated = {name: secrets.token_urlsafe(size) for name, size in _SECRETS.items()}
        generated["s3_access"] = "FLEET" + secrets.token_hex(8).upper()
        generated["webhooks"] = written(secrets.token_bytes(32))
        self.secrets = {**generated, **self.secrets}
        self.ports = ports.assign(self.ports, port_names)

    def replace_ports(self, port_names: Iterable[str]) -> None:
        """New ports for these roles, where somebody else took the old ones meanwhile."""
        for name in port_names:
            self.ports[name] = ports.free_port(avoid=self.ports.values())

    def ensure_api_key(self) -> str:
        self.api_key = self.api_key or f"fleet_{secrets.token_urlsafe(24)}"
        return self.api_key


def load(layout: Layout) -> State:
    """The state of the folder, or a new one for a new folder. Raises ValidationFailed `stack-state-unusable`."""
    try:
        return State.model_validate(json.loads(layout.state_file.read_text("utf-8")))
    except FileNotFoundError:
        pass
    except (ValidationError, ValueError) as error:
        # The fault's own text is left out: it may quote a secret.
        raise ValidationFailed(
            f"{layout.state_file} is damaged or was written by another version of Fleet: restore it from a backup, "
            "or move the data folder away to begin anew",
            code="stack-state-unusable",
        ) from (None if isinstance(error, ValidationError) else error)
    if (layout.postgres / "data").exists() or (layout.objects / "filerldb2").exists():
        raise ValidationFailed(
            f"{layout.root} has data but no stack.json, which holds the passwords to it: restore that file, "
            "or move the data folder away to begin anew",
            code="stack-state-unusable",
        )
    return State()


def save(layout: Layout, state: State) -> None:
    write_private(layout.state_file, state.model_dump_json(indent=1) + "\n", sync=True)
