"""What is known of the models at this moment: cards, versions on their way in, where they are loaded, how they do."""

from collections.abc import Iterator

from api.model_loading import ModelLoading, standings
from api.model_metrics_views import HealthView, MetricsView, metrics_view
from api.model_views import (
    ModelListView,
    ModelStatusView,
    VersionListView,
    VersionView,
    folder_view,
    model_view,
    status_view,
    version_view,
)
from fleet.card import Card
from fleet.catalogue import Catalogue
from fleet.errors import NotFound
from fleet.model_metrics import ModelMetricsReader
from fleet.model_names import MAX_VERSION, asked
from fleet.model_records import ModelRecords
from fleet.usage import UsageBoard

_HEALTH_WINDOW_S = 300.0
#: More failures than this share of the last jobs are worth a look.
_MANY_FAILURES = 0.1


class ModelOverview:
    """Thread-safe. Names may be `name@alias`; all methods raise NotFound as `Catalogue.get` does."""

    def __init__(
        self,
        catalogue: Catalogue,
        records: ModelRecords,
        loading: ModelLoading,
        usage: UsageBoard,
        metrics: ModelMetricsReader,
    ) -> None:
        self._catalogue = catalogue
        self._records = records
        self._loading = loading
        self._usage = usage
        self._metrics = metrics

    def listed(self) -> ModelListView:
        aliases = self._records.aliases()
        arriving = [held for held in self._records.versions() if held.state != "ready"]
        return ModelListView(
            models=[model_view(entry) for entry in self._catalogue.entries()],
            arriving=[version_view(held, aliases.get(held.name, {})) for held in arriving],
        )

    def number(self, name: str, version: str) -> int:
        """`3`, an alias, or `default` -> the version."""
        if version.isascii() and version.isdecimal() and 1 <= int(version[:11]) <= MAX_VERSION:
            return int(version)
        return self._catalogue.get(name if version == "default" else f"{name}@{version}").card.version

    def card(self, name: str, version: str) -> Card:
        return self._catalogue.get(name, self.number(name, version)).card

    def versions(self, name: str) -> VersionListView:
        return VersionListView(versions=list(self._versions(asked(name).name)))

    def version(self, name: str, version: int) -> VersionView:
        """Whatever its state is. Raises NotFound `model-not-found`."""
        try:
            held = self._records.get(name, version)
        except NotFound:
            card = self._catalogue.get(name, version).card
            return folder_view(card, self._aliases(card.name))
        # Read after it, since they are set when it becomes ready.
        return version_view(held, self._aliases(name))

    def status(self, name: str) -> ModelStatusView:
        wanted = asked(name).name
        desires = {desired.version: desired for desired in self._records.desires() if desired.name == wanted}
        cards = {card.version: card for card in self._catalogue.cards(wanted)}
        workers = self._catalogue.workers()
        found = list(self._versions(wanted))
        return ModelStatusView(
            name=wanted,
            default_version=self._catalogue.get(wanted).card.version if cards else None,
            aliases=self._aliases(wanted),
            versions=[
                status_view(
                    view,
                    desires.get(view.version),
                    standings(cards[view.version], workers) if view.version in cards else [],
                )
                for view in found
            ],
        )

    def health(self, name: str, version: int | None) -> HealthView:
        entry = self._catalogue.get(name, version)
        card = entry.card
        found = self._loading.standings(card)
        lately = self._metrics.read(card.name, card.version, _HEALTH_WINDOW_S)
        failures = lately.states.get("failed", 0)
        reasons = [
            f"{at.worker.word.name}: {at.state.reason}" for at in found if at.state is not None and at.state.reason
        ]
        status = "degraded" if reasons else "healthy"
        if failures > _MANY_FAILURES * lately.jobs:
            status = "degraded"
            reasons.insert(0, f"{failures} of the last {lately.jobs} jobs failed")
        if entry.unloaded or not entry.ready_workers:
            status = "unavailable"
            reasons.insert(0, "it was unloaded" if entry.unloaded else "no worker lives that can take its jobs")
        return HealthView(
            name=card.name,
            version=card.version,
            status=status,
            reasons=reasons,
            ready_workers=entry.ready_workers,
            loaded_workers=sum(at.ready for at in found),
            recent_jobs=lately.jobs,
            recent_failures=failures,
        )

    def metrics(self, name: str, version: int | None, window_s: float) -> MetricsView:
        """Of one version, or of all; also of versions that were removed since."""
        wanted = asked(name, version)
        if wanted.alias is not None:
            card = self._catalogue.get(name).card
            return self._measured(card.name, card.version, window_s)
        usage = self._usage.read(wanted.name, wanted.version)
        if not usage:
            self._catalogue.get(wanted.name, wanted.version)
        return self._measured(wanted.name, wanted.version, window_s)

    def _aliases(self, name: str) -> dict[str, int]:
        return self._records.aliases(name).get(name, {})

    def _measured(self, name: str, version: int | None, window_s: float) -> MetricsView:
        measured = self._metrics.read(name, version, window_s)
        return metrics_view(name, version, measured, self._usage.read(name, version))

    def _versions(self, name: str) -> Iterator[VersionView]:
        """In order. Raises NotFound where there is none."""
        housed, cards = self._records.versions(name), self._catalogue.cards(name)
        aliases = self._aliases(name)
        views = {held.version: version_view(held, aliases) for held in housed}
        for card in cards:
            views.setdefault(card.version, folder_view(card, aliases))
        if not views:
            self._catalogue.get(name)
        for number in sorted(views):
            yield views[number]
