"""A model's folder that a library has filled, opened as a worker opens it: for the scripts of `make parity`."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
import yaml

from fleet.settings import CPU_PROVIDER
from worker.contract import Model
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import SessionSetup
from worker.stop import StopToken
from worker.tasks import find_tasks


def references(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The models' folders in it, each with what its library has said."""
    for said in sorted(folder.glob("*/reference.json")):
        yield said.parent, json.loads(said.read_text("utf-8"))


def opened(home: Path, task: str, pipeline: Mapping[str, Any] | None = None) -> Model:
    """With a model.yaml that says no more than this; one that is there stays."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if not (home / "model.yaml").exists():
        said = {"task": task, **({"pipeline": dict(pipeline)} if pipeline else {})}
        (home / "model.yaml").write_text(yaml.safe_dump(said), "utf-8")
    version = read_versions(home, find_tasks())[0]
    return LoadedModel.opened(version, SessionSetup([CPU_PROVIDER])).for_run(StopToken())
