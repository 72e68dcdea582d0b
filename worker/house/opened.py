"""What a worker has of the model house; put together in `worker/process.py`."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.database import Database
from fleet.download import Downloads
from fleet.errors import DependencyError
from fleet.logs import get_logger
from fleet.model_records import ModelRecords
from fleet.objects import ObjectStore
from fleet.settings import Settings
from worker.contract import Task
from worker.house.disk import Disk
from worker.house.shelf import HouseShelf
from worker.house.sources.desk import downloads_of
from worker.house.weights import Weights
from worker.measures import Measures

log = get_logger(__name__)


@dataclass(frozen=True)
class House:
    records: ModelRecords
    objects: ObjectStore
    disk: Disk
    downloads: Downloads
    shelf: HouseShelf
    weights: Weights
    tasks: Mapping[str, Task]


def open_house(
    settings: Settings, database: Database, objects: ObjectStore, tasks: Mapping[str, Task], measures: Measures
) -> House:
    """Looks once what the house has; the keeper goes on looking."""
    records = ModelRecords(database)
    root = settings.model_cache
    disk = Disk(root, int(settings.model_cache_gb * 1024**3), hit=measures.model_looked_for)
    downloads = downloads_of(settings)
    shelf = HouseShelf(records, objects, disk, tasks, measures.model_came)
    try:
        shelf.look()
    except DependencyError as error:
        log.warning("the house cannot be seen yet", code=error.code)
    return House(records, objects, disk, downloads, shelf, Weights(disk, downloads, settings), tasks)
