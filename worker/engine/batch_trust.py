"""Whether a model may be batched: its author says so, and its runs must show it."""

from collections.abc import Mapping

from fleet.errors import ModelError
from fleet.logs import get_logger
from worker.contract import Array
from worker.engine.agreement import worst
from worker.engine.batch_rows import lacks_rows

#: So many joined runs that went wrong while none had gone well, and it is the model and not an input.
_DOUBTS = 8
log = get_logger(__name__)


class Trust:
    """Of one loaded model. Threads may race here: the same is found out again."""

    def __init__(self, model: str) -> None:
        self._model = model
        #: A joined run was as unbatched ones are: no more of them are compared.
        self.proven = False
        #: Why it is not batched any more.
        self.fault: ModelError | None = None
        self._doubts = 0

    def has_rows(self, outputs: Mapping[str, Array], rows: int) -> bool:
        """Whether the outputs of a joined run can be parted; if not, the model is never batched again."""
        lack = lacks_rows(outputs, rows)
        if lack is not None:
            self.refuse(lack)
        return lack is None

    def agrees(self, batched: Mapping[str, Array], alone: Mapping[str, Array]) -> bool:
        """Whether a call's rows of a joined run are those of its own run."""
        # Kernels are chosen by size, so the last bits may differ; a neighbour's rows would change much more.
        _, fault = worst(alone, batched)
        if fault is None:
            self.proven = True
        else:
            self.doubt(f"in a batch {fault} from the same rows alone, so rows depend on their neighbours")
        return fault is None

    def doubt(self, reason: str) -> None:
        """A joined run went wrong."""
        self._doubts += 1
        if not self.proven and self._doubts >= _DOUBTS:
            self.refuse(reason)

    def refuse(self, reason: str) -> None:
        self.fault = ModelError(
            f"{self._model} is said to take batches and does not: {reason}. It runs without them: correct the graph, "
            "or take max_batch_size out of what is said of the model",
            code="not-batchable",
        )
        log.error("model is not batched", model=self._model, code=self.fault.code, reason=reason)
