"""The simulator learns as the record does: its formula and the statement give the same beliefs."""

import math
import sys
from random import Random

import pytest

from fleet.cost import Belief, Key
from fleet.database import Database
from fleet.service_times import ServiceTimes
from fleet.settings import Settings
from tests.support.fleet_of_one import ROOT

sys.path.append(str(ROOT / "benchmarks"))
from routing_lab.learning import added


def test_the_record_and_the_simulator_believe_the_same(settings: Settings) -> None:
    chance, key = Random(3), Key("organs", 1, 20, "cpu")
    believed: Belief | None = None
    with Database(settings.database_dsn) as database:
        for jobs in (1, 4, 50, 90, 2):
            seen = Belief(float(jobs), math.log(chance.uniform(0.1, 100.0)), chance.random())
            ServiceTimes(database).learn({key: seen})
            believed = seen if believed is None else added(believed, seen)
            (row,) = database.run("SELECT weight, mean_log, variance_log FROM service_time WHERE model = 'organs'")
            found = (row["weight"], row["mean_log"], row["variance_log"])
            assert found == pytest.approx((believed.weight, believed.mean_log, believed.variance_log))
