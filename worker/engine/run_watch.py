"""Who counts the runs of models: told by the loaded models of a worker, built where the process is put together."""

from typing import Protocol


class RunWatch(Protocol):
    """Both are called by the threads of the jobs, and are quick."""

    def ran(self, name: str, version: int, items: int, seconds: float) -> None:
        """One run of the model went well: `items` rows of a batch, or 1 where it knows none."""
        ...

    def waited(self, name: str, version: int, seconds: float) -> None:
        """A call waited so long in the batcher before its run began."""
        ...


class Unwatched:
    """For models that run outside of a worker: in checks and trials."""

    def ran(self, name: str, version: int, items: int, seconds: float) -> None:
        pass

    def waited(self, name: str, version: int, seconds: float) -> None:
        pass
