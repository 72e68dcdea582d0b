"""The files that a model's publisher laid beside its graph, and the recipe for pictures that stands in them.

Called for every task whose graph is fed pictures as transformers or timm feeds them.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fleet.errors import ModelError
from fleet.model_source import InnerPath
from worker.contract import TaskSettings
from worker.detection.metadata import ultralytics_metadata
from worker.pictures.published import Published, of_timm, of_transformers, of_ultralytics
from worker.pictures.recipe import Recipe

_MAX_FILE_BYTES = 16 * 1024**2
#: Where transformers keeps the recipe of a model that is fed more than pictures, since its fifth version.
_PROCESSOR = "processor_config.json"


class PictureSettings(TaskSettings):
    """Nothing of it is needed beside the files of a publisher."""

    #: How pictures become the input; else what the publisher's files say.
    preprocess: Recipe | None = None
    #: The publisher's files: of transformers both, of timm the second.
    preprocessor: InnerPath = "preprocessor_config.json"
    config: InnerPath = "config.json"


class PublishedFiles:
    """Read as they are asked for. Raises ModelError `publisher-file-invalid` for one that cannot be read."""

    def __init__(self, find: Callable[[str], Path | None]) -> None:
        self._find = find

    def object(self, name: str) -> Mapping[str, Any]:
        """Empty without such a file, and for one that holds something else."""
        value = self.value(name)
        return value if isinstance(value, dict) else {}

    def value(self, name: str) -> Any:
        """What the file of JSON holds, or the lines of a `.txt`; None without such a file."""
        path = self._find(name)
        if path is None:
            return None
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise ValueError("it is too large")
            text = path.read_text("utf-8")
            return text.splitlines() if name.endswith(".txt") else json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{name} cannot be read: {error}", code="publisher-file-invalid") from error


def picture_recipe(settings: PictureSettings, files: PublishedFiles, metadata: Mapping[str, str]) -> Published:
    """From whichever says it first: model.yaml, transformers' file, timm's, the graph's metadata.

    Raises ModelError `preprocess-unknown`, `publisher-file-invalid`.
    """
    if settings.preprocess is not None:
        return Published(settings.preprocess, "model.yaml")
    if said := files.object(settings.preprocessor):
        return of_transformers(said, settings.preprocessor)
    nested = files.object(_PROCESSOR).get("image_processor")
    if isinstance(nested, dict):
        return of_transformers(nested, _PROCESSOR)
    config = files.object(settings.config)
    timm = config.get("pretrained_cfg", config)
    if isinstance(timm, dict) and {"input_size", "mean", "std"} <= timm.keys():
        return of_timm(timm, settings.config)
    written = ultralytics_metadata(metadata)
    if written is not None and written.task == "classify":
        return of_ultralytics(written.size)
    raise ModelError(
        f"how pictures become the input is not known: there is no {settings.preprocessor} and no timm "
        f"{settings.config} beside the graph, and it was not exported by ultralytics. Lay the publisher's file "
        "there, or say it in model.yaml under pipeline.preprocess",
        code="preprocess-unknown",
    )
