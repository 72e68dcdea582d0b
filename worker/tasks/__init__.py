"""The tasks: each file of this folder with a `TASK` in it is one kind of inference."""

import importlib
import pkgutil
from typing import Protocol, runtime_checkable

from fleet.errors import ModelError
from fleet.model_settings import ModelSettings
from worker.contract import Task


@runtime_checkable
class Configurable(Protocol):
    """A task to which the operator's settings say something."""

    def configured(self, settings: ModelSettings) -> Task: ...


def find_tasks(settings: ModelSettings | None = None) -> dict[str, Task]:
    """Every task by name, as the settings have it. Raises ModelError `task-broken`, naming the file at fault."""
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
        if settings is not None and isinstance(task, Configurable):
            task = task.configured(settings)
        if task.name in found:
            raise ModelError(f"worker/tasks/{module.name}.py: the task {task.name!r} exists twice", code="task-broken")
        found[task.name] = task
    return found
