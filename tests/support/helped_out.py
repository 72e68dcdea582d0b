"""The leading front door's word on who is to help out where, said by a test; and workers that hear it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from fleet.catalogue import Catalogue, WorkerRow
from fleet.contracts import DevicePolicy, Job, Lane, Pool, Priority
from fleet.database import Database
from fleet.jobs import JobStore
from fleet.settings import Settings
from fleet.traffic import QueueTraffic, Traffic, TrafficBoard
from tests.support.fleet_of_one import ROOT, new_job, submit
from tests.support.waiting import eventually

WHY = "gpu wait 41 s > cpu 12 s"
#: Makes `tests.support.hasty_worker` importable.
HASTY = {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


class Record:
    """What a test sees of the fleet, and says to it."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.jobs = JobStore(database)
        self.catalogue = Catalogue(database)
        self.board = TrafficBoard(database)

    def ask(self, worker: str, *queues: str, why: str = WHY) -> None:
        """From now on the worker is to take from these queues besides its own, and from no other."""
        asked = {queue: QueueTraffic(helpers=["someone", worker], help_why=why) for queue in queues}
        self.board.write(Traffic(at=datetime.now(UTC), queues=asked))

    def word(self, worker: str) -> WorkerRow:
        """What it says of itself. Raises KeyError unless it lives."""
        return {live.word.name: live.word for live in self.catalogue.workers()}[worker]

    def wait_until_taking(self, worker: str, *queues: str) -> None:
        """Until it takes from these queues of the GPUs, and from no other."""
        eventually(
            lambda: {name for name in self.word(worker).queues if name.startswith("gpu")} == set(queues),
            errors=(KeyError,),
        )

    def submit_to(self, pool: Pool, priority: Priority = Priority.NORMAL, **changes: Any) -> Job:
        lane = changes.pop("lane", Lane.BULK)
        return submit(self.settings, self.jobs, new_job(pool=pool, priority=priority, lane=lane, **changes))

    def submit_gpu_only(self, priority: Priority, **changes: Any) -> Job:
        return self.submit_to(Pool.GPU, priority, device_policy=DevicePolicy.GPU_ONLY, **changes)


@contextmanager
def record_of(settings: Settings) -> Iterator[Record]:
    with Database(settings.database_dsn) as database:
        yield Record(settings, database)
