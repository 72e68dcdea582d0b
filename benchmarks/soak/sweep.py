"""Orphans: objects under results/ that belong to no job's result. Counted, and swept by Fleet's own walk."""

import threading
import time

from api.measures import Measures
from api.orphans import OrphanWalk
from api.steps import Steps
from fleet.database import Database
from fleet.objects import ObjectStore
from fleet.retention import Retention
from fleet.settings import Settings
from soak import record

#: The store tells times in whole seconds.
_SETTLE_S = 2.0


def orphans(settings: Settings) -> list[str]:
    """Keys that no artifact of any job refers to."""
    referred = {
        artifact["object"]["key"] for row in record.rows(settings.database_dsn) for artifact in row["artifacts"]
    }
    return sorted(set(ObjectStore(settings).keys("results/")) - referred)


def sweep(settings: Settings) -> None:
    """Without the usual hour of grace: nothing runs any more."""
    time.sleep(_SETTLE_S)
    with Database(settings.database_dsn) as database:
        walk = OrphanWalk(Retention(database), ObjectStore(settings), Steps(Measures()), grace_s=0.0, every_s=60.0)
        walk.go_on(threading.Event(), budget_s=120.0)
