"""How many rows a run on a CPU should have: more only where a row is done sooner for it. No threads here.

On a CPU some models gain much by batches, since their weights are read once for all rows, and others lose, since what
many rows make does not stay in the cache. Nobody need say which: the runs tell.
"""

import sys
from collections import OrderedDict
from dataclasses import dataclass, field

from worker.engine.batch_rows import Bucket

#: Larger batches make everybody wait longer, and are worth it from such a gain on.
_GAIN = 1.05
#: What a run costs besides itself: its leader is found, rows are joined and answers handed out.
_RUN_S = 0.0003
#: A pace that was seen once is forgotten after a hundred runs that were slower.
_FORGET = 1.02
#: One run of so many is larger than the best, and one smaller: they may have become better.
_PROBE = 16
_MOST_BUCKETS = 256


@dataclass
class _Seen:
    """Of one bucket: the fastest seconds a row, by sizes 1, 2, 3 to 4, 5 to 8 and so on, as their number."""

    row_s: dict[int, float] = field(default_factory=dict)
    runs: int = 0
    best: int = 0


class Pace:
    """Of one batcher, whose lock is held."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Bucket, _Seen] = OrderedDict()

    def learn(self, bucket: Bucket, rows: int, seconds: float) -> None:
        """From a run of so many rows, 1 or more, that went well."""
        seen = self._seen.setdefault(bucket, _Seen())
        self._seen.move_to_end(bucket)
        if len(self._seen) > _MOST_BUCKETS:
            self._seen.popitem(last=False)
        size, row_s = (rows - 1).bit_length(), (seconds + _RUN_S) / rows
        # The fastest: beside other runs one takes longer than its size can tell.
        seen.row_s[size] = min(row_s, seen.row_s.get(size, row_s) * _FORGET)
        seen.runs += 1
        enough = _GAIN * min(seen.row_s.values())
        seen.best = min(size for size, row_s in seen.row_s.items() if row_s <= enough)

    def most_rows(self, bucket: Bucket) -> int:
        """Of the next run; no limit while nothing larger was seen to be slower."""
        seen = self._seen.get(bucket)
        if seen is None:
            return sys.maxsize
        if seen.runs % _PROBE == _PROBE // 2:
            return 1 << max(0, seen.best - 1)
        if seen.best == max(seen.row_s):
            return sys.maxsize
        return 1 << seen.best + (seen.runs % _PROBE == 0)
