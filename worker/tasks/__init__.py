"""The tasks: each file of this folder with a `TASK` in it is one kind of inference."""

import importlib
import pkgutil

from fleet.errors import ModelError
from worker.contract import Task


def find_tasks() -> dict[str, Task]:
    """Every task by name. Raises ModelError `task-broken`, naming the file, when one cannot be imported."""
    found: dict[str, Task] = {}
    for module in pkgutil.iter_modules(__path__):
        try:
            task: Task = importlib.import_module(f"{__name__}.{module.name}").TASK
        except Exception as error:
            raise ModelError(
                f"worker/tasks/{module.name}.py cannot be used as a task: {type(error).__name__}: {error}",
                code="task-broken",
                file=module.name,
            ) from error
        if task.name in found:
            raise ModelError(f"worker/tasks/{module.name}.py: the task {task.name!r} exists twice", code="task-broken")
        found[task.name] = task
    return found
