"""`status.json`: what runs, written by the supervisor at every change and read by `fleet status`. No secrets."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cli.stack import identity
from cli.stack.child import Child
from cli.stack.private_file import write_private


class ChildStatus(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    state: str
    pid: int | None
    started_at: datetime | None
    restarts: int
    last_exit: int | None
    fault: str | None
    log: Path | None


def child_status(child: Child) -> ChildStatus:
    moment = None if child.started_at is None else datetime.fromtimestamp(child.started_at, UTC)
    return ChildStatus(
        name=child.name,
        state=child.state,
        pid=child.pid,
        started_at=moment,
        restarts=child.restarts,
        last_exit=child.last_exit,
        fault=child.fault,
        log=child.log,
    )


class StackStatus(BaseModel):
    """`phase` is `starting`, `running` or `stopping`; `addresses` are shown as they are, without passwords."""

    model_config = ConfigDict(extra="ignore")

    pid: int
    started: str
    started_at: datetime
    phase: str
    data: Path
    url: str | None
    addresses: dict[str, str]
    external: list[str]
    notes: list[str]
    children: list[ChildStatus]

    @property
    def alive(self) -> bool:
        """Whether the supervisor that wrote this still runs."""
        return identity.is_running(self.pid, self.started)

    @property
    def healthy(self) -> bool:
        return self.phase == "running" and all(child.state == "healthy" for child in self.children)


def read_status(path: Path) -> StackStatus | None:
    """What was written last, or None; it may be of a supervisor that is gone (`alive`)."""
    try:
        return StackStatus.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_status(path: Path, status: StackStatus) -> None:
    write_private(path, status.model_dump_json(indent=1) + "\n")
