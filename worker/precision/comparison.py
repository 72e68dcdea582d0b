"""How far a graph's outputs are from those of the graph that it was made from, over many inputs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from worker.contract import Array


@dataclass(frozen=True)
class OutputReport:
    """Of one output. `max_difference` and `mean_difference` are absolute, in the output's own unit."""

    name: str
    max_difference: float
    mean_difference: float
    #: Root mean square of the differences, over the root mean square of the output before: 0.01 is 40 dB apart. Of
    #: integers, booleans and texts the share of elements that differ.
    disagreement: float
    #: Of all values as one vector; None where one of the two is all zeros.
    cosine: float | None
    #: Share of rows whose largest value is in the same column; None unless the output is a row of scores per item.
    same_best: float | None
    rows: int = 0


class OutputComparison:
    """Takes in pairs of one output, and sums up."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._elements = self._rows = self._same = 0
        self._largest = self._total = 0.0
        self._squares = self._before = self._after = self._dot = 0.0
        self._exact = self._scores = False

    def add(self, before: Array, after: Array) -> None:
        if before.shape != after.shape:
            self._squares = self._largest = math.inf
            return
        self._elements += before.size
        if not np.issubdtype(before.dtype, np.floating):
            self._exact = True
            differing = float(np.count_nonzero(before != after))
            self._total += differing
            self._largest = max(self._largest, float(differing > 0))
            return
        a, b = before.astype(np.float64).ravel(), after.astype(np.float64).ravel()
        counts = np.isfinite(a) & np.isfinite(b)
        # What is no number any more is as far away as can be.
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, math.inf)
        apart[counts] = np.abs(a[counts] - b[counts])
        a, b = a[counts], b[counts]
        self._largest = max(self._largest, float(apart.max(initial=0.0)))
        self._total += float(apart.sum())
        self._squares += float(apart @ apart)
        self._before += float(a @ a)
        self._after += float(b @ b)
        self._dot += float(a @ b)
        if before.ndim == 2 and before.shape[1] > 1:
            self._scores = True
            self._rows += before.shape[0]
            self._same += int(np.count_nonzero(before.argmax(1) == after.argmax(1)))

    def report(self) -> OutputReport:
        size = self._before * self._after
        return OutputReport(
            name=self._name,
            max_difference=self._largest,
            mean_difference=self._total / max(1, self._elements),
            disagreement=self._disagreement(),
            cosine=self._dot / math.sqrt(size) if size > 0 else None,
            same_best=self._same / self._rows if self._scores and self._rows else None,
            rows=self._rows,
        )

    def _disagreement(self) -> float:
        if self._exact:
            return self._total / max(1, self._elements)
        if self._squares == 0:
            return 0.0
        return math.sqrt(self._squares / self._before) if self._before > 0 else math.inf


class Comparison:
    """The same for all outputs."""

    def __init__(self) -> None:
        self._outputs: dict[str, OutputComparison] = {}

    def add(self, before: Mapping[str, Array], after: Mapping[str, Array]) -> None:
        for name, value in before.items():
            self._outputs.setdefault(name, OutputComparison(name)).add(value, after[name])

    def reports(self) -> tuple[OutputReport, ...]:
        return tuple(output.report() for output in self._outputs.values())
