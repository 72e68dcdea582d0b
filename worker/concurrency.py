"""How many jobs a worker process runs at once when nobody says."""

from collections.abc import Collection

from fleet.contracts import Lane, Pool

#: Short jobs wait for the record and the object store for most of their time.
_INTERACTIVE = 16
#: While one volume reads or writes, the other keeps the cores busy.
_BULK_ON_CPU = 2
_BULK_ON_GPU = 1


def default_concurrency(lanes: Collection[Lane], pool: Pool, cores: int) -> int:
    """Jobs at once for a process of these lanes. One that serves both goes by its bulk jobs."""
    if set(lanes) == {Lane.INTERACTIVE}:
        return _INTERACTIVE
    return _BULK_ON_GPU if pool is Pool.GPU else min(_BULK_ON_CPU, cores)


def threads_of_session(concurrency: int, cores: int) -> int:
    """Threads for the runs of one session, where so many jobs run at once in a process with so many cores.

    Half of the jobs run their models at a time, and share the cores; the others read, write and wait. Measured on 2
    cores with four sessions at once: 3.7 ms a run with one thread each, 4.7 with two.
    """
    return max(1, cores // max(1, concurrency // 2))
