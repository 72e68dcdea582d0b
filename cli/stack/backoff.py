"""How long to wait before a process that keeps ending is started again."""

from dataclasses import dataclass


@dataclass
class Backoff:
    """Doubles from `first_s` to `most_s`; a run of `reset_after_s` is forgiven everything before it."""

    first_s: float = 0.5
    most_s: float = 30.0
    reset_after_s: float = 60.0
    _next_s: float | None = None

    def after_run_of(self, ran_s: float) -> float:
        """Seconds to wait now, given how long the last run was."""
        wait_s = self.first_s if self._next_s is None or ran_s >= self.reset_after_s else self._next_s
        self._next_s = min(wait_s * 2, self.most_s)
        return wait_s
