"""The model house in the record: versions that are brought in, aliases, and what is to be loaded where.

requested ──▶ importing ──▶ ready ──▶ removing ──▶ (gone)
    ▲             │ └─────▶ failed ──▶ removing
    └─────────────┘ its worker was lost, or handed it back

The front door asks for versions and names them; workers import them (`claim_import` hands out a fencing token) and do
what `desires` says. `revision` grows with every change, so that looking for one is cheap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb
from pydantic import Field, TypeAdapter

from fleet.card import Card
from fleet.contracts import Pool
from fleet.database import Database, Row
from fleet.errors import Conflict, NotFound
from fleet.model_source import ModelSource
from fleet.sql import statements
from fleet.values import Recorded

_SQL = statements("models")
_SOURCE: TypeAdapter[ModelSource] = TypeAdapter(ModelSource)
#: The alias of what a request without a version gets.
DEFAULT_ALIAS = "default"
Desire = Literal["loaded", "unloaded", "evicted"]


class StoredFile(Recorded):
    """A file of a version in the object store; `path` is the one in the version's folder."""

    path: str
    size: int
    sha256: str
    key: str


class HousedVersion(Recorded):
    """A row of `model_version`."""

    name: str
    version: int
    state: Literal["requested", "importing", "ready", "failed", "removing"]
    tenant: str
    source: ModelSource
    manifest: dict[str, Any] | None = None
    aliases: list[str] = Field(default_factory=list)
    pool: Pool | None = None
    stage: str | None = None
    done_bytes: int = 0
    total_bytes: int | None = None
    files: list[StoredFile] = Field(default_factory=list)
    report: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    attempt: int = 0
    #: Workers that were lost while they imported it.
    losses: int = 0
    created_at: datetime
    changed_at: datetime

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Desired:
    """What workers shall do with a version; `config` stands in the place of the model's own configuration."""

    name: str
    version: int
    desire: Desire
    config: dict[str, Any] | None
    generation: int

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"


class ModelRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def request(
        self,
        name: str,
        version: int | None,
        source: ModelSource,
        *,
        tenant: str,
        manifest: dict[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> HousedVersion:
        """Asks for a version to be brought in; without a number the next one. Raises Conflict `version-exists`."""
        values = {
            "name": name,
            "version": version,
            "tenant": tenant,
            "source": Jsonb(_SOURCE.dump_python(source, mode="json")),
            "manifest": None if manifest is None else Jsonb(manifest),
            "aliases": list(aliases),
        }
        # Two that ask for the next one at once: the later one gets the number after it.
        for _ in range(1 if version is not None else 20):
            row = self._database.one(_SQL["request"], values)
            if row is not None:
                return HousedVersion.model_validate(row)
        raise Conflict(
            f"the model {name!r} has a version {version} already: leave `version` out to get the next number",
            code="version-exists",
            model=name,
            version=version,
        )

    def get(self, name: str, version: int) -> HousedVersion:
        """Raises NotFound `model-not-found`."""
        row = self._database.one(_SQL["version"], {"name": name, "version": version})
        if row is None:
            raise NotFound(
                f"no version {version} of a model {name!r} was brought in", code="model-not-found", model=name
            )
        return HousedVersion.model_validate(row)

    def versions(self, name: str | None = None) -> list[HousedVersion]:
        return [HousedVersion.model_validate(row) for row in self._database.run(_SQL["versions"], {"name": name})]

    def claim_import(self, worker: str, pool: Pool, lease_s: float, *, older_s: float = 0.0) -> HousedVersion | None:
        """The next version to import, held for `lease_s`; `older_s`: only one that has waited so long."""
        row = self._database.one(
            _SQL["claim_import"], {"worker": worker, "pool": pool.value, "lease_s": lease_s, "older_s": older_s}
        )
        return None if row is None else HousedVersion.model_validate(row)

    def renew_import(
        self, held: HousedVersion, lease_s: float, stage: str, done_bytes: int = 0, total_bytes: int | None = None
    ) -> bool:
        """False when the import is not ours any more."""
        values = self._token(held) | {"lease_s": lease_s, "stage": stage}
        values |= {"done_bytes": done_bytes, "total_bytes": total_bytes}
        return self._database.one(_SQL["renew_import"], values) is not None

    def finish_import(
        self, held: HousedVersion, files: Sequence[StoredFile], card: Card, report: dict[str, Any]
    ) -> bool:
        """Ready for all workers, under its aliases. False when the import is not ours any more."""
        values = self._token(held) | {
            "files": Jsonb([file.model_dump(mode="json") for file in files]),
            "card": Jsonb(card.model_dump(mode="json")),
            "sha256": card.sha256,
            "report": Jsonb(report),
        }
        return self._database.one(_SQL["finish_import"], values) is not None

    def fail_import(self, held: HousedVersion, error: dict[str, Any]) -> bool:
        """`error` as FleetError.as_dict gives it."""
        return self._database.one(_SQL["fail_import"], self._token(held) | {"error": Jsonb(error)}) is not None

    def release_import(self, held: HousedVersion, pool: Pool | None = None) -> bool:
        """Back to those who wait; with a pool, for workers of that one."""
        values = self._token(held) | {"pool": pool.value if pool is not None else None}
        return self._database.one(_SQL["release_import"], values) is not None

    def retry_import(self, name: str, version: int) -> HousedVersion:
        """Raises NotFound, and Conflict `import-not-failed`."""
        row = self._database.one(_SQL["retry_import"], {"name": name, "version": version})
        if row is None:
            state = self.get(name, version).state
            raise Conflict(f"version {version} of {name!r} is {state}, not failed", code="import-not-failed")
        return HousedVersion.model_validate(row)

    def remove(self, name: str, version: int) -> None:
        """From now on nobody finds it; its files are swept soon. Raises NotFound."""
        if self._database.one(_SQL["remove"], {"name": name, "version": version}) is None:
            self.get(name, version)

    def removing(self) -> list[HousedVersion]:
        """Versions whose files are to go."""
        return [HousedVersion.model_validate(row) for row in self._database.run(_SQL["removing"])]

    def removed(self, name: str, version: int) -> None:
        """Its files are gone."""
        self._database.run(_SQL["removed"], {"name": name, "version": version})

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Raises NotFound `model-not-found` when no such version can be served."""
        if self._database.one(_SQL["set_alias"], {"name": name, "alias": alias, "version": version}) is None:
            raise _unserved(name, version)

    def drop_alias(self, name: str, alias: str) -> int:
        """The version that it pointed to. Raises NotFound `alias-not-found`."""
        row = self._database.one(_SQL["drop_alias"], {"name": name, "alias": alias})
        if row is None:
            raise NotFound(f"the model {name!r} has no alias {alias!r}", code="alias-not-found", model=name)
        return int(row["version"])

    def aliases(self, name: str | None = None) -> dict[str, dict[str, int]]:
        """Model -> alias -> version."""
        found: dict[str, dict[str, int]] = {}
        for row in self._database.run(_SQL["aliases"], {"name": name}):
            found.setdefault(row["name"], {})[row["alias"]] = row["version"]
        return found

    def desire(self, name: str, version: int, desire: Desire, config: dict[str, Any] | None = None) -> Desired:
        """Raises NotFound `model-not-found` when no such version can be served."""
        values = {"name": name, "version": version, "desire": desire}
        row = self._database.one(_SQL["desire"], values | {"config": None if config is None else Jsonb(config)})
        if row is None:
            raise _unserved(name, version)
        return _desired(row)

    def forget_desire(self, name: str, version: int) -> None:
        """Back to the usual: loaded when a job needs it."""
        self._database.run(_SQL["forget_desire"], {"name": name, "version": version, "generation": None})

    def take_back(self, desired: Desired, before: Desired | None) -> None:
        """Back to what was desired before; nothing where something else is desired by now."""
        values = {"name": desired.name, "version": desired.version, "generation": desired.generation}
        if before is None:
            self._database.run(_SQL["forget_desire"], values)
            return
        config = None if before.config is None else Jsonb(before.config)
        self._database.run(_SQL["restore_desire"], values | {"desire": before.desire, "config": config})

    def desires(self) -> list[Desired]:
        return [_desired(row) for row in self._database.run(_SQL["desires"])]

    def revision(self) -> int:
        row = self._database.one(_SQL["revision"])
        assert row is not None  # noqa: S101 (the migration wrote it)
        return int(row["revision"])

    @staticmethod
    def _token(held: HousedVersion) -> dict[str, Any]:
        return {"name": held.name, "version": held.version, "attempt": held.attempt}


def _desired(row: Row) -> Desired:
    return Desired(row["name"], row["version"], row["desire"], row["config"], row["generation"])


def _unserved(name: str, version: int) -> NotFound:
    return NotFound(f"there is no version {version} of a model {name!r} that can be served", code="model-not-found")
