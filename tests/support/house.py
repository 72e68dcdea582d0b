"""The model house in a test: the record and the object store as an api has them, and workers that import."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.database import Database
from fleet.model_records import HousedVersion, ModelRecords
from fleet.model_source import GivenFile, ModelSource, Uploaded
from fleet.objects import ObjectStore
from fleet.settings import Settings
from tests.support.fleet_of_one import ROOT
from tests.support.waiting import eventually


class TestHouse:
    __test__ = False

    def __init__(self, database: Database, settings: Settings) -> None:
        self.records = ModelRecords(database)
        self.objects = ObjectStore(settings)
        self._uploads = 0

    def upload(self, files: dict[str, bytes]) -> Uploaded:
        """As the front door leaves them: in the object store, under uploads/."""
        self._uploads += 1
        given = []
        for path, content in files.items():
            key = f"uploads/default/{self._uploads}/{path}"
            stored = self.objects.put_bytes(
                key, content, media_type="application/octet-stream", name=path.rpartition("/")[2]
            )
            given.append(GivenFile(path=path, object=stored))
        return Uploaded(files=given)

    def ask(self, name: str, source: ModelSource, version: int | None = None, **more: Any) -> HousedVersion:
        return self.records.request(name, version, source, tenant="default", **more)

    def wait(self, row: HousedVersion, *states: str, within_s: float = 60.0) -> HousedVersion:
        """The row once it is in one of the states, by default once it is ready or failed."""
        found: list[HousedVersion] = []

        def there() -> bool:
            found[:] = [self.records.get(row.name, row.version)]
            return found[0].state in (states or ("ready", "failed"))

        eventually(there, within_s=within_s)
        return found[0]


@contextmanager
def house(settings: Settings) -> Iterator[TestHouse]:
    with Database(settings.database_dsn) as database:
        yield TestHouse(database, settings)


def worker_folder(folder: Path) -> dict[str, str]:
    """Settings of a worker with a repository of its own, which holds `echo`, and a disk cache of its own."""
    models = folder / "models"
    if not models.exists():
        shutil.copytree(ROOT / "models" / "echo", models / "echo")
    return {"MODELS_PATH": str(models), "MODEL_CACHE_PATH": str(folder / "cache"), "INFERENCE_DEVICE": "cpu"}
