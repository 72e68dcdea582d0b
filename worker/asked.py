"""Which task a job asks for: that of its model, or raw inference, which every model with tensors can do."""

from pydantic import ValidationError

from fleet.contracts import Job
from fleet.errors import ValidationFailed
from fleet.tensors import TASK_NAME
from worker.contract import Task, TaskParams
from worker.engine.manifest import faults
from worker.tasks.tensors import TASK as TENSORS


def asked(job: Job, own: Task) -> tuple[Task, TaskParams]:
    """The task and the request's parameters as it knows them; `own` is the model's. Raises ValidationFailed."""
    task: Task = TENSORS if job.task == TASK_NAME else own
    try:
        return task, task.Params.model_validate(job.params)
    except ValidationError as error:
        raise ValidationFailed(f"params: {faults(error)}") from error
