"""Parts in memory, for tests of tasks: what is kept, how often, and faults on demand."""

from dataclasses import dataclass, field

from fleet.errors import RunStopped


@dataclass
class KeptParts:
    """`worker.contract.Parts` that several attempts share."""

    content: dict[str, bytes] = field(default_factory=dict)
    keeps: list[str] = field(default_factory=list)
    #: The attempt ends when so many parts have been kept.
    keeps_left: int | None = None

    @property
    def found(self) -> bool:
        return bool(self.content)

    def read(self, name: str) -> bytes | None:
        return self.content.get(name)

    def keep(self, name: str, content: bytes) -> None:
        if self.keeps_left == 0:
            raise RunStopped("the worker is shutting down", code="drained")
        self.keeps_left = None if self.keeps_left is None else self.keeps_left - 1
        self.keeps.append(name)
        self.content[name] = content
