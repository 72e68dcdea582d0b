"""Objects: every one is written with its digest and checked against it."""

import hashlib
import os
from pathlib import Path

import httpx
import pytest
from minio import Minio

from fleet.contracts import ObjectRef
from fleet.errors import DependencyError, IntegrityError, NotFound
from fleet.objects import ObjectStore, StoredPart, content_disposition, result_key, upload_key
from fleet.settings import Settings

MIB = 1024 * 1024
KIND = {"media_type": "application/gzip", "name": "a.nii.gz"}


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return ObjectStore(settings)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def raw(settings: Settings) -> Minio:
    return Minio(
        settings.minio_endpoint,
        settings.minio_access_key,
        settings.minio_secret_key.get_secret_value(),
        secure=False,
        region=settings.minio_region,
    )


@pytest.mark.parametrize("size", [1, 100_000, 12 * MIB + 3])
def test_what_is_put_comes_back_and_is_checked(store: ObjectStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    stored = store.put_file("uploads/t/1/a.nii.gz", source, **KIND)
    assert stored == ObjectRef(bucket=store.bucket, key="uploads/t/1/a.nii.gz", size=size, sha256=digest(data), **KIND)
    seen: list[int] = []
    assert store.fetch(stored, target, seen.append) == stored
    assert target.read_bytes() == data
    assert seen[-1] == size
    assert store.size_of(store.bucket, stored.key) == size


def test_a_known_digest_is_not_computed_again(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    assert store.put_file("a", source, sha256="0" * 64, **KIND).sha256 == "0" * 64


def test_the_digest_of_an_object_without_one_is_learned(store: ObjectStore, tmp_path: Path) -> None:
    stored = store.put_bytes("a", b"abc", **KIND)
    unknown = stored.model_copy(update={"sha256": None})
    assert store.fetch(unknown, tmp_path / "a") == stored


@pytest.mark.parametrize("found", [b"abd", b"ab", b"abcd", b""])
def test_a_corrupted_object_is_refused_and_nothing_stays_on_disk(
    store: ObjectStore, settings: Settings, tmp_path: Path, found: bytes
) -> None:
    import io

    stored = store.put_bytes("a", b"abc", **KIND)
    raw(settings).put_object(store.bucket, "a", io.BytesIO(found), len(found))
    with pytest.raises(IntegrityError) as refused:
        store.fetch(stored, tmp_path / "a")
    assert refused.value.facts["announced_sha256"] == digest(b"abc")
    assert not (tmp_path / "a").exists()


def test_what_is_not_there_is_not_found(store: ObjectStore, tmp_path: Path) -> None:
    missing = ObjectRef(bucket=store.bucket, key="none", size=1)
    for ask in (
        lambda: store.fetch(missing, tmp_path / "a"),
        lambda: store.size_of(store.bucket, "none"),
        lambda: store.complete_multipart("none", "none", [StoredPart(1, "x")]),
    ):
        with pytest.raises(NotFound) as refused:
            ask()
        assert refused.value.code == "object-not-found"


def test_presigned_urls_put_and_get_under_the_objects_name(store: ObjectStore) -> None:
    reference = ObjectRef(bucket=store.bucket, key="uploads/t/1/a", size=3, media_type="text/plain", name="bé.txt")
    assert httpx.put(store.presigned_put(reference.key), content=b"abc", trust_env=False).status_code == 200
    answer = httpx.get(store.presigned_get(reference), trust_env=False)
    assert answer.content == b"abc"
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-disposition"] == content_disposition("bé.txt")


def test_a_presigned_url_is_for_one_key_and_one_verb(store: ObjectStore) -> None:
    url = store.presigned_put("uploads/t/1/a")
    assert httpx.put(url.replace("/1/a", "/2/a"), content=b"abc", trust_env=False).status_code == 403
    assert httpx.get(url, trust_env=False).status_code == 403


@pytest.mark.parametrize(
    ("public", "start"),
    [
        (None, "http://{endpoint}/"),
        ("files.example:9000", "http://files.example:9000/"),
        ("https://files.example/", "https://files.example/"),
    ],
)
def test_users_get_urls_of_the_public_endpoint(settings: Settings, public: str | None, start: str) -> None:
    store = ObjectStore(settings.model_copy(update={"minio_public_endpoint": public}))
    reference = ObjectRef(bucket=store.bucket, key="a", size=1)
    for url in (store.presigned_put("a"), store.presigned_get(reference), store.presigned_part("a", "id", 1)):
        assert url.startswith(start.format(endpoint=settings.minio_endpoint))


def test_parts_are_put_by_url_and_joined_in_order(store: ObjectStore, tmp_path: Path) -> None:
    pieces = [os.urandom(5 * MIB), os.urandom(5 * MIB), b"end"]
    multipart = store.start_multipart("a", "application/gzip")
    parts = []
    for number in (3, 1, 2):
        answer = httpx.put(
            store.presigned_part("a", multipart, number), content=pieces[number - 1], trust_env=False, timeout=60
        )
        parts.append(StoredPart(number, answer.headers["etag"]))
    with pytest.raises(NotFound):
        store.complete_multipart("a", multipart, [*parts[:2], StoredPart(2, "f" * 32)])
    store.complete_multipart("a", multipart, parts)
    whole = ObjectRef(bucket=store.bucket, key="a", size=10 * MIB + 3, sha256=digest(b"".join(pieces)))
    assert store.fetch(whole, tmp_path / "a") == whole


def test_an_aborted_multipart_takes_no_more_parts(store: ObjectStore) -> None:
    multipart = store.start_multipart("a", "application/gzip")
    url = store.presigned_part("a", multipart, 1)
    assert httpx.put(url, content=b"abc", trust_env=False).status_code == 200
    store.abort_multipart("a", multipart)
    assert httpx.put(url, content=b"abc", trust_env=False).status_code == 404


def test_a_prefix_is_removed_and_nothing_beside_it(store: ObjectStore) -> None:
    for key in ("results/1/1/a", "results/1/1/b", "results/1/2/a", "results/10/1/a"):
        store.put_bytes(key, b"abc", **KIND)
    store.remove_prefix("results/1/1/")
    assert store.keys("results/") == ["results/1/2/a", "results/10/1/a"]
    store.remove_prefix("results/1/1/")


def test_removing_what_is_gone_is_no_fault(store: ObjectStore) -> None:
    store.put_bytes("a", b"abc", **KIND)
    store.remove("a")
    store.remove("a")
    assert store.keys("") == []


def test_a_bucket_is_made_once_and_missed_when_it_is_gone(settings: Settings) -> None:
    store = ObjectStore(settings.model_copy(update={"minio_bucket": "made-by-a-test"}))
    with pytest.raises(DependencyError, match="MINIO_BUCKET"):
        store.check()
    store.ensure_bucket()
    store.ensure_bucket()
    store.check()
    raw(settings).remove_bucket("made-by-a-test")


def test_a_store_that_is_away_or_refuses_us_is_a_dependency_error(settings: Settings) -> None:
    from pydantic import SecretStr

    for change in ({"minio_endpoint": "127.0.0.1:1"}, {"minio_secret_key": SecretStr("wrong-secret")}):
        store = ObjectStore(settings.model_copy(update=change))
        with pytest.raises(DependencyError) as refused:
            store.put_bytes("a", b"abc", **KIND)
        assert refused.value.code == "object-store-unavailable"
        assert "wrong-secret" not in refused.value.message


def test_keys_keep_tenants_jobs_and_attempts_apart() -> None:
    from uuid import UUID

    number = UUID("01990000-0000-7000-8000-000000000001")
    assert upload_key("acme", number, "a.nii") == f"uploads/acme/{number}/a.nii"
    assert result_key(number, 2, "mask.nii.gz") == f"results/{number}/2/mask.nii.gz"
