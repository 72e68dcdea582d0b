"""Prometheus counters of processes that die: read every two seconds, and added up over all lives of a process.

What a process counted in the last seconds before it was killed is missing, so sums are lower bounds.
"""

import threading
from collections.abc import Sequence

import httpx
from prometheus_client.samples import Sample

from tests.support.whole_fleet import WholeFleet

_EVERY_S = 2.0


class Counters:
    """`start`, `close`, then `total`."""

    def __init__(self, fleet: WholeFleet) -> None:
        self._fleet = fleet
        #: (process, start) -> the last that it said.
        self._last: dict[tuple[str, int], Sequence[Sample]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._read_all()

    def total(self, name: str, **labels: str) -> int:
        """Sum over all processes of the samples that carry these labels."""
        said = (sample for samples in self._last.values() for sample in samples if sample.name == name)
        return sum(int(sample.value) for sample in said if labels.items() <= sample.labels.items())

    def _keep(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._read_all()

    def _read_all(self) -> None:
        for process in self._fleet.processes:
            life = process.name, process.starts
            try:
                self._last[life] = self._fleet.samples(process)
            except (httpx.HTTPError, ValueError):
                # Dead, frozen or just starting.
                continue
