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
