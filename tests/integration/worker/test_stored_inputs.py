"""Inputs that lie in the object store, fetched by a worker."""

from pathlib import Path

import pytest

from fleet.contracts import JobInput, ObjectRef
from fleet.errors import InputError, IntegrityError, NotFound
from fleet.objects import ObjectStore
from fleet.settings import Settings
from worker.inputs import fetched
from worker.stop import StopToken

KEY = "inputs/default/a.png"


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    made = ObjectStore(settings)
    made.ensure_bucket()
    return made


def test_what_was_found_under_a_prefix_is_known_by_its_key(objects: ObjectStore, tmp_path: Path) -> None:
    stored = objects.put_bytes(KEY, b"abc", media_type="image/png", name="x")
    found = JobInput(object=ObjectRef(bucket=objects.bucket, key=KEY, size=3), listed=True)
    source, known = fetched(objects, found, tmp_path / "a", StopToken(), alone=False)
    assert (source.name, source.path.read_bytes(), source.listed, source.fault) == (KEY, b"abc", True, None)
    assert known.listed
    assert known.object is not None
    assert known.object.sha256 == stored.sha256


@pytest.mark.parametrize(("size", "kind", "code"), [(3, NotFound, "object-not-found"), (7, IntegrityError, None)])
def test_an_object_that_is_gone_or_another_fails_alone_among_several(
    objects: ObjectStore, tmp_path: Path, size: int, kind: type[Exception], code: str | None
) -> None:
    if kind is IntegrityError:
        objects.put_bytes(KEY, b"abc", media_type="image/png", name="x")
    found = JobInput(object=ObjectRef(bucket=objects.bucket, key=KEY, size=size))
    source, known = fetched(objects, found, tmp_path / "a", StopToken(), alone=False)
    assert isinstance(source.fault, InputError)
    assert source.fault.code == (code or IntegrityError.code)
    assert known == found
    with pytest.raises(kind):
        fetched(objects, found, tmp_path / "a", StopToken(), alone=True)
