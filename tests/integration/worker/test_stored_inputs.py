"""Inputs that lie in the object store or in the record, fetched by a worker."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from fleet.addresses import Reach
from fleet.contracts import Job, JobInput, KeptInput, LinkInput, MediaKind, ObjectRef
from fleet.database import Database
from fleet.errors import DependencyError, InputError, IntegrityError, NoCapableWorker, NotFound
from fleet.jobs import JobStore
from fleet.kept_inputs import KeptInputs, described
from fleet.objects import ObjectStore
from fleet.outward import Outward
from fleet.settings import Settings
from tests.support.file_server import site
from tests.support.fleet_of_one import new_job
from worker.inputs import Inputs
from worker.links import Fetched, Links
from worker.memory.room import ArrayRoom
from worker.progress import JobProgress
from worker.stop import StopToken

KEY = "inputs/default/a.png"
Fetch = Callable[[list[JobInput]], list[Fetched]]


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    made = ObjectStore(settings)
    made.ensure_bucket()
    return made


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


@pytest.fixture
def fetch(objects: ObjectStore, database: Database, tmp_path: Path) -> Fetch:
    inputs = Inputs(objects, KeptInputs(database), Links(Outward([]), 100))

    def fetched(given: list[JobInput], **changes: object) -> list[Fetched]:
        job: Job = JobStore(database).submit(new_job(inputs=given, **changes)).job
        return inputs.fetched(job, tmp_path / str(job.id), MediaKind.IMAGE, JobProgress(StopToken()), StopToken())

    return fetched


def at(objects: ObjectStore, size: int, **more: bool) -> JobInput:
    return JobInput(object=ObjectRef(bucket=objects.bucket, key=KEY, size=size), **more)


def test_what_was_found_under_a_prefix_is_known_by_its_key(objects: ObjectStore, fetch: Fetch) -> None:
    stored = objects.put_bytes(KEY, b"abc", media_type="image/png", name="x")
    ((source, known),) = fetch([at(objects, 3, listed=True)])
    assert (source.name, source.path.read_bytes(), source.listed, source.fault) == (KEY, b"abc", True, None)
    assert known.listed
    assert known.object is not None
    assert known.object.sha256 == stored.sha256


@pytest.mark.parametrize(("size", "kind", "code"), [(3, NotFound, "object-not-found"), (7, IntegrityError, None)])
def test_an_object_that_is_gone_or_another_fails_alone_among_several(
    objects: ObjectStore, fetch: Fetch, size: int, kind: type[Exception], code: str | None
) -> None:
    if kind is IntegrityError:
        objects.put_bytes(KEY, b"abc", media_type="image/png", name="x")
    found = at(objects, size)
    for several in ([found, found], [found.model_copy(update={"listed": True})]):
        source, known = fetch(several)[0]
        assert isinstance(source.fault, InputError)
        assert source.fault.code == (code or IntegrityError.code)
        assert known == several[0]
    with pytest.raises(kind):
        fetch([found])


def test_what_lies_in_the_record_is_not_written_to_disk(fetch: Fetch, tmp_path: Path) -> None:
    content = bytes(range(256)) * 500
    kept = JobInput(kept=described(content, "a.png", "image/png"))
    ((source, known),) = fetch([kept], kept={0: content})  # type: ignore[call-arg]
    assert (source.content, source.name, source.media_type, known) == (content, "a.png", "image/png", kept)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_away_while_inputs_are_read_is_not_the_job_s_fault(
    objects: ObjectStore, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(KeptInputs):
        def contents(self, job_id: UUID, kept: dict[int, KeptInput]) -> dict[int, bytes]:
            raise DependencyError("PostgreSQL cannot be reached", code="database-unavailable")

    monkeypatch.setattr("worker.inputs._PATIENCE_S", 0.0)
    given = [JobInput(kept=described(b"abc", None, "image/png"))]
    job = JobStore(database).submit(new_job(inputs=given, kept={0: b"abc"})).job
    inputs = Inputs(objects, Away(database), Links(Outward([]), 100))
    with pytest.raises(NoCapableWorker) as told:
        inputs.fetched(job, tmp_path / "job", MediaKind.IMAGE, JobProgress(StopToken()), StopToken())
    assert told.value.code == "input-unavailable"


def test_all_files_of_a_job_are_admitted_before_they_are_there(
    objects: ObjectStore, database: Database, tmp_path: Path
) -> None:
    objects.put_bytes(KEY, b"abc", media_type="image/png", name="x")
    asked: list[int] = []

    class Asking(JobProgress):
        def admit(self, *given: Any, scratch_bytes: int = 0, **more: Any) -> ArrayRoom:
            asked.append(scratch_bytes)
            return ArrayRoom()

    with site(picture=b"12345") as server:
        link = JobInput(link=LinkInput(url=f"{server.url}/picture"))
        job = JobStore(database).submit(new_job(inputs=[at(objects, 3), link])).job
        links = Links(Outward(Reach([ip_network("127.0.0.1/32")])), 100)
        progress, stop = Asking(StopToken()), StopToken()
        Inputs(objects, KeptInputs(database), links).fetched(job, tmp_path / "job", MediaKind.IMAGE, progress, stop)
    assert asked == [3, 8]
