"""Small networks of the families that embed pictures, as their libraries exported them, and what these answered.

Packed by benchmarks/reference_image_embedding.py.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fleet.settings import CPU_PROVIDER
from worker.contract import Model
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import SessionSetup
from worker.stop import StopToken
from worker.tasks import find_tasks

GOLDENS = Path(__file__).with_name("image_embedding_goldens.zip")


def names() -> list[str]:
    with zipfile.ZipFile(GOLDENS) as packed:
        return sorted({name.partition("/")[0] for name in packed.namelist()})


def unpacked(name: str, repository: Path, *, without: tuple[str, ...] = (), **manifest: Any) -> Path:
    """The model's folder, with fields of model.yaml in `manifest`; `pipeline` adds to what the reference says."""
    with zipfile.ZipFile(GOLDENS) as packed:
        for path in packed.namelist():
            if path.startswith(f"{name}/") and path.rpartition("/")[2] not in without:
                packed.extract(path, repository)
    folder = repository / name
    pipeline = reference(name)["pipeline"] | manifest.pop("pipeline", {})
    said = {"task": "image-embedding", "lane": "interactive", "device": "any", "pipeline": pipeline} | manifest
    (folder / "model.yaml").write_text(yaml.safe_dump(said), "utf-8")
    return folder


def reference(name: str) -> Mapping[str, Any]:
    """What the library answered."""
    with zipfile.ZipFile(GOLDENS) as packed:
        said: Mapping[str, Any] = json.loads(packed.read(f"{name}/reference.json"))
    return said


def loaded(folder: Path) -> Model:
    version = read_versions(folder, find_tasks())[0]
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
    return LoadedModel.opened(version, setup).for_run(StopToken())
