"""How many pictures share a job: from what the jobs of their kind took so far."""

from collections.abc import Hashable

from fleet.contracts import Job, Stage

#: Seconds that a shared job should run: whoever comes meanwhile waits for it.
_JOB_S = 0.5
_MOST = 16
#: While it is not known how long a picture takes.
_FIRST = 4
#: A pace that was seen once is forgotten after a hundred jobs that were slower, and so is a list that was too long.
_FORGET = 1.02
_WORK = (Stage.DECODE, Stage.PREPARE, Stage.INFER, Stage.FINISH)


class PictureSizes:
    """What was learned of each kind of job."""

    def __init__(self) -> None:
        self._picture_s: dict[Hashable, float] = {}
        self._room: dict[Hashable, float] = {}

    def learn(self, kind: Hashable, job: Job, pictures: int) -> None:
        """From a job that succeeded."""
        seconds = sum(job.timings.get(stage.value, 0.0) for stage in _WORK)
        if seconds > 0:
            # The fastest: with other jobs beside it, one takes longer than its size can tell.
            seen = seconds / pictures
            self._picture_s[kind] = min(seen, self._picture_s.get(kind, seen) * _FORGET)
        if kind in self._room:
            self._room[kind] *= _FORGET
            if self._room[kind] >= _MOST:
                del self._room[kind]

    def learn_crowded(self, kind: Hashable, pictures: int) -> None:
        """The answers to so many did not fit into the record."""
        self._room[kind] = max(1.0, pictures / 2)

    def most(self, kind: Hashable) -> int:
        """Pictures of one job; 1: each has its own."""
        picture_s = self._picture_s.get(kind)
        most = _FIRST if picture_s is None else int(min(_MOST, _JOB_S / picture_s))
        return max(1, min(most, int(self._room.get(kind, most))))
