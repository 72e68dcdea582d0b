"""What lies beside a classifier's graph and in its metadata: how pictures become input, what classes are called."""

import json
from collections.abc import Mapping
from typing import Any

from fleet.errors import ModelError
from worker.classification.settings import ClassificationSettings
from worker.contract import Model
from worker.detection.metadata import class_names, ultralytics_metadata
from worker.pictures.published import Published, of_timm, of_transformers, of_ultralytics

_MAX_FILE_BYTES = 16 * 1024**2
_NAME_CHARACTERS = 200


class Publisher:
    """Of one loaded model. Raises ModelError `publisher-file-invalid`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._settings: ClassificationSettings = model.settings
        self._metadata = model.notes.metadata
        self._config = self._object(self._settings.config)

    def recipe(self) -> Published:
        """From whichever says it first: model.yaml, transformers' file, timm's, the graph's metadata.

        Raises ModelError `preprocess-unknown`.
        """
        settings = self._settings
        if settings.preprocess is not None:
            return Published(settings.preprocess, "model.yaml")
        if said := self._object(settings.preprocessor):
            return of_transformers(said, settings.preprocessor)
        timm = self._config.get("pretrained_cfg", self._config)
        if isinstance(timm, dict) and {"input_size", "mean", "std"} <= timm.keys():
            return of_timm(timm, settings.config)
        written = ultralytics_metadata(self._metadata)
        if written is not None and written.task == "classify":
            return of_ultralytics(written.size)
        raise ModelError(
            f"how pictures become the input is not known: there is no {settings.preprocessor} and no timm "
            f"{settings.config} beside the graph, and it was not exported by ultralytics. Lay the publisher's file "
            "there, or say it in model.yaml under pipeline.preprocess",
            code="preprocess-unknown",
        )

    def names(self) -> Mapping[int, str]:
        """Of the classes, from whichever says them first: model.yaml, the file of labels, config.json, metadata."""
        if self._model.labels:
            return self._model.labels
        listed = self._listed(self._settings.labels)
        if not listed:
            listed = self._config.get("id2label") or self._config.get("label_names") or {}
        if isinstance(listed, list):
            listed = dict(enumerate(listed))
        if listed:
            return {int(key): str(name)[:_NAME_CHARACTERS] for key, name in listed.items() if str(key).isdecimal()}
        return class_names(self._metadata.get("names", "")) or {}

    @property
    def multi_label(self) -> bool | None:
        """What the publisher says; None when nothing."""
        problem = self._config.get("problem_type")
        return problem == "multi_label_classification" if isinstance(problem, str) else None

    def _object(self, name: str) -> Mapping[str, Any]:
        """Empty without such a file."""
        text = self._text(name)
        if text is None:
            return {}
        value = self._json(name, text)
        return value if isinstance(value, dict) else {}

    def _listed(self, name: str) -> Any:
        text = self._text(name)
        if text is None:
            return None
        if name.endswith(".txt"):
            return text.splitlines()
        value = self._json(name, text)
        if not isinstance(value, list | dict):
            raise _invalid(name, "it is neither a list nor an object")
        return value

    def _text(self, name: str) -> str | None:
        path = self._model.file(name)
        if path is None:
            return None
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise ValueError("it is too large")
            return path.read_text("utf-8")
        except (OSError, ValueError) as error:
            raise _invalid(name, str(error)) from error

    @staticmethod
    def _json(name: str, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _invalid(name, str(error)) from error


def _invalid(name: str, why: str) -> ModelError:
    return ModelError(f"{name} cannot be read: {why}", code="publisher-file-invalid")
