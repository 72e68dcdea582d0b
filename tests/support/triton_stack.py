"""A front door and one worker that has models in Triton's own layout, and nothing of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.settings import Settings
from tests.support.every_type import every_type
from tests.support.fleet_of_one import worker_process
from tests.support.front_door import Door, front_door
from tests.support.triton_repository import identity, make_repository
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Stack:
    """A front door, one worker, and the folder of its models."""

    door: Door
    models: Path

    @property
    def address(self) -> str:
        """As Triton's client wants it."""
        return self.door.url.removeprefix("http://")


@contextmanager
def triton_stack(settings: Settings, folder: Path) -> Iterator[Stack]:
    """With the models of `make_repository`, `every-type`, and `wide`: y = x, FP32 [-1]."""
    models = make_repository(folder / "models")
    every_type(models / "every-type" / "1" / "model.onnx")
    identity(models / "wide" / "1" / "model.onnx")
    for name in ("every-type", "wide"):
        (models / name / "config.pbtxt").write_text("max_batch_size: 0\n")
    worker = worker_process(settings, folder, MODELS_PATH=str(models), WORKER_NAME="only")
    with front_door(settings, max_wait_s=60) as door, worker:
        eventually(door.core.catalogue.workers)
        yield Stack(door, models)
