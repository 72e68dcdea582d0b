"""GET /api/v1/jobs/{id}/artifacts/{name}: by redirect, or through the API."""

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from fleet.contracts import Artifact
from fleet.objects import result_key
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door

NAME = 'mäsk "1".nii.gz'
DATA = b"mask" * 1_000_000
DIGEST = hashlib.sha256(DATA).hexdigest()


def job_with_artifact(door: Door, name: str = NAME) -> dict[str, object]:
    job = door.accepted()
    reference = door.core.objects.put_bytes(
        result_key(door.id(job["id"]), 1, "mask.nii.gz"), DATA, media_type="application/gzip", name="mask.nii.gz"
    )
    door.run(job["id"], artifacts=[Artifact(name=name, object=reference)])
    (artifact,) = door.http.get(f"/api/v1/jobs/{job['id']}").json()["artifacts"]
    assert (artifact["size"], artifact["sha256"], artifact["name"]) == (len(DATA), DIGEST, name)
    return dict(artifact)


@pytest.fixture
def proxy_door(settings: Settings) -> Iterator[Door]:
    with front_door(settings, object_access="proxy") as door:
        door.announce(card())
        yield door


def filename(answer: httpx.Response) -> str:
    return answer.headers["content-disposition"].partition("filename*=UTF-8''")[2]


def test_the_url_redirects_to_the_object_store(door: Door) -> None:
    url = str(job_with_artifact(door)["url"])
    assert url.startswith(door.url)
    answer = door.http.get(url)
    assert answer.status_code == 307
    assert answer.headers["cache-control"] == "no-store"
    download = httpx.get(answer.headers["location"], trust_env=False)
    assert download.content == DATA
    assert download.headers["content-type"] == "application/gzip"
    assert filename(download) == "m%C3%A4sk%20%221%22.nii.gz"


def test_the_bytes_themselves_come_through_the_api(proxy_door: Door) -> None:
    url = str(job_with_artifact(proxy_door)["url"])
    answer = proxy_door.http.get(url)
    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert filename(answer) == "m%C3%A4sk%20%221%22.nii.gz"
    assert proxy_door.http.get(url, headers={"if-none-match": f'"{DIGEST}"'}).status_code == 304


def test_a_plain_name_needs_no_second_form(proxy_door: Door) -> None:
    answer = proxy_door.http.get(str(job_with_artifact(proxy_door, "mask.nii.gz")["url"]))
    assert answer.headers["content-disposition"] == 'attachment; filename="mask.nii.gz"'


def test_an_unknown_artifact_names_those_that_exist(door: Door) -> None:
    url = str(job_with_artifact(door, "mask.nii.gz")["url"])
    answer = door.http.get(url.replace("mask.nii.gz", "other"))
    assert (answer.status_code, answer.json()["code"]) == (404, "artifact-not-found")
    assert "mask.nii.gz" in answer.json()["detail"]


def test_an_object_that_is_gone_is_an_error_and_no_broken_download(proxy_door: Door) -> None:
    url = str(job_with_artifact(proxy_door)["url"])
    proxy_door.core.objects.remove_prefix("results/")
    answer = proxy_door.http.get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "object-not-found")


def test_the_public_url_is_the_base_of_artifact_urls(settings: Settings) -> None:
    with front_door(settings, public_url="https://fleet.example") as door:
        door.announce(card())
        assert str(job_with_artifact(door, "a.txt")["url"]).startswith("https://fleet.example/api/v1/jobs/")
