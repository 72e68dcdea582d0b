"""The orphan walk: through the whole bucket, page by page, for objects that no job can ever need.

What may lie there without a job: results of attempts that lost (a worker killed between its last object and its commit,
or one that woke up after its lease), files of models likewise, bytes that came through a signed URL after their upload
was deleted, and multipart uploads that nobody ended. The record decides, never the object's age alone, and it is asked
after the listing: an attempt that is not the current one of its job then can never become it.

The bucket holds the name of its record. A walk that finds another name removes nothing: two fleets that share a bucket
by mistake, or a new database beside old objects, must cost no data.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from api.steps import Steps
from fleet.contracts import ObjectRef
from fleet.errors import Conflict, NotFound
from fleet.logs import get_logger
from fleet.model_names import MAX_VERSION
from fleet.objects import Found, ObjectStore
from fleet.parts import part_of
from fleet.retention import Retention

#: Holds the name of the record that the bucket belongs to, and tells the store's clock.
OWNER_KEY = "fleet-record"
_PLACES = ("results/", "uploads/", "models/")
_PAGE = 1000
#: Of each minute.
_BUDGET_S = 10.0
log = get_logger(__name__)


@dataclass
class _Walk:
    """A walk under way."""

    #: Objects younger than this moment of the store's clock are left alone.
    before: datetime
    began: float
    places: list[str] = field(default_factory=lambda: list(_PLACES))
    after: str | None = None
    seen: int = 0
    removed: int = 0


class OrphanWalk:
    """Used by one thread; two processes that walk at once are harmless."""

    def __init__(
        self, retention: Retention, objects: ObjectStore, steps: Steps, *, grace_s: float, every_s: float
    ) -> None:
        """A walk begins `every_s` after the one before began; 0: never."""
        self._retention = retention
        self._objects = objects
        self._steps = steps
        self._grace = timedelta(seconds=grace_s)
        self._every_s = every_s
        self._walk: _Walk | None = None
        self._next_at = time.monotonic()

    def go_on(self, stop: threading.Event, budget_s: float = _BUDGET_S) -> None:
        """Goes on where it stopped, by a page at least; begins a walk when it is time."""
        until = time.monotonic() + budget_s
        if self._walk is None:
            if self._every_s == 0 or time.monotonic() < self._next_at:
                return
            self._walk = self._begin()
            self._next_at = self._walk.began + self._every_s
        walk = self._walk
        while walk.places and not stop.is_set():
            self._page(walk)
            if time.monotonic() >= until:
                break
        if not walk.places:
            self._walk = None
            seconds = round(time.monotonic() - walk.began, 1)
            self._steps.did("orphan-walk", 1, objects=walk.seen, removed=walk.removed, seconds=seconds)

    def _begin(self) -> _Walk:
        """Raises Conflict `bucket-of-another-record`."""
        began = time.monotonic()
        walk = _Walk(self._own() - self._grace, began)
        for place in _PLACES:
            self._end_multiparts(place, walk)
        return walk

    def _own(self) -> datetime:
        """Makes sure that the bucket is this record's; the store's clock."""
        ours = str(self._retention.identity())
        owner = ObjectRef(bucket=self._objects.bucket, key=OWNER_KEY, size=len(ours))
        with suppress(NotFound):
            theirs = b"".join(self._objects.stream(owner)).decode("utf-8", "replace")
            if theirs != ours:
                raise Conflict(
                    f"the bucket {owner.bucket!r} belongs to the record {theirs[:64]}, and this is {ours}: no sweep; "
                    f"give each Fleet a bucket of its own, or remove the object {OWNER_KEY!r} to hand it over",
                    code="bucket-of-another-record",
                )
        self._objects.put_bytes(OWNER_KEY, ours.encode(), media_type="text/plain", name=OWNER_KEY)
        return self._objects.written_at(OWNER_KEY)

    def _page(self, walk: _Walk) -> None:
        place = walk.places[0]
        found = self._objects.page(place, walk.after, _PAGE)
        orphans = self._orphans(place, [item for item in found if item.since < walk.before])
        refused = self._objects.remove_all([item.key for item in orphans])
        if refused:
            log.warning("orphans not removed", count=len(refused), reasons=sorted(set(refused.values())))
        removed = len(orphans) - len(refused)
        self._steps.did(f"orphan-{place.removesuffix('s/')}", removed)
        walk.seen += len(found)
        walk.removed += removed
        walk.after = found[-1].key if found else None
        if not found:
            del walk.places[0]

    def _end_multiparts(self, place: str, walk: _Walk) -> None:
        old = [item for item in self._objects.unfinished(place) if item.since < walk.before]
        orphans = self._orphans(place, old)
        for item in orphans:
            with suppress(NotFound):
                self._objects.abort_multipart(item.key, item.multipart_id)
        self._steps.did("multipart-ended", len(orphans))

    def _orphans(self, place: str, found: Sequence[Found]) -> list[Found]:
        match place:
            case "results/":
                return self._orphan_results(found)
            case "models/":
                return self._orphan_models(found)
        return self._orphan_uploads(found)

    def _orphan_results(self, found: Sequence[Found]) -> list[Found]:
        attempts = [(item, attempt_of(item.key)) for item in found]
        known = [(item, *attempt) for item, attempt in attempts if attempt is not None]
        parts = [(item, part[0]) for item in found if (part := part_of(item.key)) is not None]
        fates = self._retention.fates(list({job_id for _, job_id, _ in known} | {job_id for _, job_id in parts}))
        needless = [
            item for item, job_id, attempt in known if (fate := fates.get(job_id)) is None or not fate.may_need(attempt)
        ]
        # Parts serve all later attempts, and nobody once the job has ended.
        return needless + [item for item, job_id in parts if (fate := fates.get(job_id)) is None or fate.state.ended]

    def _orphan_models(self, found: Sequence[Found]) -> list[Found]:
        known = [(item, *version) for item in found if (version := version_of(item.key)) is not None]
        needed_from = self._retention.model_fates(list({(name, version) for _, name, version, _ in known}))
        return [
            item
            for item, name, version, attempt in known
            if (name, version) not in needed_from or attempt < needed_from[name, version]
        ]

    def _orphan_uploads(self, found: Sequence[Found]) -> list[Found]:
        known = [(item, upload_id) for item in found if (upload_id := upload_of(item.key)) is not None]
        fates = self._retention.upload_fates(list({upload_id for _, upload_id in known}))
        abandoned = [upload_id for upload_id, fate in fates.items() if fate.abandoned]
        if abandoned:
            # From then on it is one of the uploads that nobody used, and swept with them.
            self._steps.did("upload-abandoned", self._retention.give_up_abandoned(abandoned))
        return [
            item
            for item, upload_id in known
            if (fate := fates.get(upload_id)) is None or (item.multipart_id and not fate.pending)
        ]


def attempt_of(key: str) -> tuple[UUID, int] | None:
    """Job and attempt that a result belongs to; None for what is not named as Fleet names results."""
    match key.split("/"):
        case ["results", job_id, attempt, _, *_] if attempt.isascii() and attempt.isdecimal():
            found = _id(job_id)
            return None if found is None else (found, int(attempt))
    return None


def version_of(key: str) -> tuple[str, int, int] | None:
    """Name, version and attempt to bring it in; None for what is not named as the model house names its files."""
    match key.split("/"):
        case ["models", name, version, attempt, _, *_] if all(
            part.isascii() and part.isdecimal() and int(part[:11]) <= MAX_VERSION for part in (version, attempt)
        ):
            return name, int(version), int(attempt)
    return None


def upload_of(key: str) -> UUID | None:
    """The upload that an object belongs to; None for what is not named as Fleet names uploads."""
    match key.split("/"):
        case ["uploads", _, upload_id, _, *_]:
            return _id(upload_id)
    return None


def _id(text: str) -> UUID | None:
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
