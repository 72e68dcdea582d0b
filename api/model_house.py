"""The parts of the model house that the front door has, built once per app."""

from dataclasses import dataclass

from api.inputs import Inputs
from api.measures import Measures
from api.model_figures import ModelFigures
from api.model_intake import ModelIntake
from api.model_loading import ModelLoading
from api.model_overview import ModelOverview
from fleet.catalogue import Catalogue
from fleet.database import Database
from fleet.errors import Conflict, NotFound
from fleet.model_metrics import ModelMetricsReader
from fleet.model_records import DEFAULT_ALIAS, ModelRecords
from fleet.objects import ObjectStore
from fleet.outward import outward_of
from fleet.settings import Settings
from fleet.uploads import UploadStore
from fleet.usage import UsageBoard


@dataclass(frozen=True)
class ModelHouse:
    records: ModelRecords
    catalogue: Catalogue
    usage: UsageBoard
    intake: ModelIntake
    loading: ModelLoading
    overview: ModelOverview

    def remove(self, name: str, version: int, *, force: bool) -> None:
        """Takes a version out that was brought in. What runs on it may end.

        Raises NotFound, Conflict `version-in-folder`, and `version-in-use` unless forced.
        """
        try:
            held = self.records.get(name, version)
        except NotFound:
            card = self.catalogue.get(name, version).card
            raise Conflict(
                f"version {card.version} of {card.name!r} lies in the models folder of the workers: remove it there",
                code="version-in-folder",
                model=name,
                version=version,
            ) from None
        if held.state == "ready" and not force:
            self._check_unused(name, version)
        self.records.remove(name, version)

    def _check_unused(self, name: str, version: int) -> None:
        entry = self.catalogue.get(name, version)
        names = {alias for alias, number in entry.aliases.items() if number == version}
        if len(entry.versions) > 1 and self.catalogue.get(name).card.version == version:
            names.add(DEFAULT_ALIAS)
        if names:
            raise Conflict(
                f"version {version} of {name!r} is what requests for {', '.join(sorted(names))} get: point them to "
                "another version first, or force it",
                code="version-in-use",
                model=name,
                version=version,
                aliases=sorted(names),
            )


def build_model_house(
    settings: Settings,
    database: Database,
    *,
    catalogue: Catalogue,
    uploads: UploadStore,
    inputs: Inputs,
    objects: ObjectStore,
    measures: Measures,
) -> ModelHouse:
    records, usage = ModelRecords(database), UsageBoard(database)
    outward = outward_of(settings)
    intake = ModelIntake(
        records,
        uploads,
        inputs,
        objects,
        outward,
        max_bytes=settings.model_max_bytes,
        ttl_s=float(settings.upload_ttl_s),
    )
    loading = ModelLoading(records, catalogue)
    overview = ModelOverview(catalogue, records, loading, usage, ModelMetricsReader(database))
    measures.also(ModelFigures(usage))
    return ModelHouse(records, catalogue, usage, intake, loading, overview)
