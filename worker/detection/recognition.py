"""Which family a graph is of: as model.yaml says, else the only one that it can be read as."""

from fleet.errors import ModelError
from worker.detection.facts import Facts
from worker.detection.families import READINGS
from worker.detection.family import Family


def recognised(facts: Facts) -> Family:
    """Raises ModelError `family-unfit`, `detection-ambiguous` or `detection-unknown`, with what to do."""
    said = facts.settings.family
    if said is not None:
        reading = next(one for one in READINGS if one.name == said)
        family = reading.reader(facts)
        if family is None:
            raise ModelError(
                f"pipeline.family is {said}, which has {reading.form}, and the graph has {facts.told()}",
                code="family-unfit",
            )
        return family
    readings = [(reading, family) for reading in READINGS if (family := reading.reader(facts)) is not None]
    if not readings:
        known = "; ".join(f"{one.name}: {one.form}" for one in READINGS)
        raise ModelError(
            f"the graph is of no family that is known here: it has {facts.told()}. Known are {known}",
            code="detection-unknown",
        )
    if len(readings) > 1:
        ways = ", or ".join(f"{reading.name} ({reading.meaning})" for reading, _ in readings)
        raise ModelError(
            f"the graph can be read in {len(readings)} ways: {ways}. Say which with pipeline.family",
            code="detection-ambiguous",
        )
    return readings[0][1]
