"""Says back what it is told, through a real session: for smoke tests and for measuring the fleet's own cost."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from fleet.contracts import MediaKind, ResultKind, Stage
from worker.contract import Model, Progress, TaskParams, TaskSettings

Float32 = Annotated[float, Field(ge=-3.4e38, le=3.4e38, allow_inf_nan=False)]


class Echo:
    """The numbers of a request, run through the model and returned."""

    name: ClassVar[str] = "echo"
    accepts: ClassVar[MediaKind] = MediaKind.NONE
    returns: ClassVar[ResultKind] = ResultKind.JSON

    class Settings(TaskSettings):
        pass

    class Params(TaskParams):
        values: list[Float32] = Field(default=[0.0], min_length=1, max_length=1024, description="numbers to say back")
        repeat: int = Field(default=1, ge=1, le=1_000_000, description="how often to run the model")
        pause_s: float = Field(default=0.0, ge=0, le=60, description="seconds of work on a CPU to pretend besides")

    def run(self, media: None, params: Params, model: Model, progress: Progress) -> dict[str, Any]:
        values = np.asarray(params.values, np.float32)
        with progress.stage(Stage.INFER):
            if params.pause_s:
                model.pretend(params.pause_s)
            for step in range(params.repeat):
                values = model.run({"x": values})["y"]
                progress.advance(step + 1, params.repeat)
        return {"values": values.tolist()}

    def check(self, model: Model) -> Iterator[str]:
        if [tensor.name for tensor in model.inputs] != ["x"] or [tensor.name for tensor in model.outputs] != ["y"]:
            yield "the graph must have one input 'x' and one output 'y'"


TASK = Echo()
