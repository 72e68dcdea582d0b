"""What lies beside a classifier's graph and in its metadata: how pictures become input, what classes are called."""

from collections.abc import Mapping

from fleet.errors import ModelError
from worker.classification.settings import ClassificationSettings
from worker.contract import Model
from worker.detection.metadata import class_names, numbered
from worker.pictures.published import Published
from worker.pictures.publisher import PublishedFiles, picture_recipe


class Publisher:
    """Of one loaded model. Raises ModelError `publisher-file-invalid`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._settings: ClassificationSettings = model.settings
        self._metadata = model.notes.metadata
        self._files = PublishedFiles(model.file)
        self._config = self._files.object(self._settings.config)

    def recipe(self) -> Published:
        """Raises ModelError `preprocess-unknown`."""
        return picture_recipe(self._settings, self._files, self._metadata)

    def names(self) -> Mapping[int, str]:
        """Of the classes, from whichever says them first: model.yaml, the file of labels, config.json, metadata."""
        if self._model.labels:
            return self._model.labels
        listed = self._files.value(self._settings.labels)
        if listed is not None and not isinstance(listed, list | dict):
            raise ModelError(
                f"{self._settings.labels} cannot be read: it is neither a list nor an object",
                code="publisher-file-invalid",
            )
        if not listed:
            listed = self._config.get("id2label") or self._config.get("label_names") or {}
        if isinstance(listed, list):
            listed = dict(enumerate(listed))
        if listed:
            return numbered(listed)
        return class_names(self._metadata.get("names", "")) or {}

    @property
    def multi_label(self) -> bool | None:
        """What the publisher says; None when nothing."""
        problem = self._config.get("problem_type")
        return problem == "multi_label_classification" if isinstance(problem, str) else None
