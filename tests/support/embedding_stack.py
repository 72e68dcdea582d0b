"""A front door and one worker that has the tiny embedder: what clients of embeddings are tried against."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.settings import Settings
from tests.support.fleet_of_one import worker_process
from tests.support.front_door import Door, front_door
from tests.support.tiny_embedder import MODEL, make_model
from tests.support.waiting import eventually


@contextmanager
def embedding_stack(
    settings: Settings, folder: Path, *, environment: Mapping[str, str] | None = None, **changes: Any
) -> Iterator[Door]:
    """`environment` is of the worker, `changes` of the front door. Vectors may be cut to four numbers."""
    batching = {"max_batch_size": 16, "dynamic": True, "instances": 2}
    make_model(folder / "models", batching=batching, pipeline={"dimensions": [4], "truncate": "refuse"})
    chosen = {"MODELS_PATH": str(folder / "models"), "WORKER_NAME": "only", **(environment or {})}
    worker = worker_process(settings, folder, **chosen)
    with front_door(settings, **{"max_wait_s": 60, **changes}) as door, worker:
        eventually(lambda: any(f"{MODEL}/1" in live.word.models for live in door.core.catalogue.workers()))
        yield door
