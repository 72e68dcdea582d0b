"""Pictures in a request: base64 with and without a data URI, large ones, and URLs that a worker is to go to."""

import base64
import hashlib
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import httpx
import pytest

from fleet.contracts import MediaKind, ResultKind
from fleet.kept_inputs import KeptInputs
from tests.support.front_door import Door, card, front_door
from tests.support.servers import Servers

CARD = card("picture", task="image-classification", accepts=MediaKind.IMAGE, returns=ResultKind.ITEMS, params_schema={})
PUBLIC = "https://93.184.216.34/cat.jpg"


@pytest.fixture(scope="module")
def picture_door(servers: Servers) -> Iterator[Door]:
    with (
        servers.fresh() as settings,
        front_door(settings, outward_allow_networks=[ip_network("10.9.0.0/16")]) as opened,
    ):
        opened.announce(CARD, card("text"))
        yield opened


def send(door: Door, *inputs: dict[str, Any], model: str = "picture") -> httpx.Response:
    return door.submit(model=model, inputs=list(inputs))


def stored(door: Door, answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 202, answer.text
    return door.core.jobs.get(door.id(answer.json()["id"])).inputs


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("before", "media_type"),
    [
        ("", "application/octet-stream"),
        ("data:image/png;base64,", "image/png"),
        ("DATA:image/svg+xml;charset=utf-8;base64,", "image/svg+xml"),
        ("data:;base64,", "application/octet-stream"),
    ],
)
def test_few_bytes_lie_in_the_job(picture_door: Door, before: str, media_type: str) -> None:
    found = stored(picture_door, send(picture_door, {"data": before + base64_of(b"abc"), "name": "a.png"}))[0]
    assert (found.inline.data, found.inline.name, found.inline.media_type) == (base64_of(b"abc"), "a.png", media_type)


def test_a_media_type_that_is_said_outranks_that_of_the_uri(picture_door: Door) -> None:
    given = {"data": f"data:image/png;base64,{base64_of(b'abc')}", "media_type": "image/webp"}
    assert stored(picture_door, send(picture_door, given))[0].inline.media_type == "image/webp"


@pytest.mark.parametrize("model", ["picture", "text"])
def test_more_bytes_lie_in_the_record_beside_the_job(picture_door: Door, model: str) -> None:
    content = bytes(range(256)) * 1000
    given = {"data": f"data:image/jpeg;base64,{base64_of(content)}", "name": "a.jpg"}
    answer = send(picture_door, given, model=model)
    (found,) = stored(picture_door, answer)
    assert (found.kept.size, found.kept.name, found.kept.media_type) == (256_000, "a.jpg", "image/jpeg")
    assert found.kept.sha256 == hashlib.sha256(content).hexdigest()
    (shown,) = answer.json()["inputs"]
    assert (shown["name"], shown["size"], shown["sha256"]) == ("a.jpg", 256_000, found.kept.sha256)
    job_id = picture_door.id(answer.json()["id"])
    assert KeptInputs(picture_door.core.database).contents(job_id, {0: found.kept}) == {0: content}


def test_a_large_picture_becomes_an_upload_of_its_job(picture_door: Door) -> None:
    content = bytes(range(256)) * 5000
    found = stored(picture_door, send(picture_door, {"data": f"data:image/jpeg;base64,{base64_of(content)}"}))[0]
    assert (found.object.size, found.object.media_type) == (1_280_000, "image/jpeg")
    assert found.object.key.startswith("uploads/default/")
    assert b"".join(picture_door.core.objects.stream(found.object)) == content
    deletion = picture_door.http.delete(f"/api/v1/uploads/{found.object.key.split('/')[2]}")
    assert (deletion.status_code, deletion.json()["code"]) == (409, "upload-in-use")


def test_of_many_pictures_the_row_takes_some_and_the_record_more(picture_door: Door) -> None:
    """A page of two hundred rows is read at once."""
    small, larger = {"data": base64_of(bytes(60_000))}, {"data": base64_of(bytes(900_000))}
    found = stored(picture_door, send(picture_door, *[small] * 9, *[larger] * 5))
    where = ["row" if item.inline else "beside" if item.kept else "object" for item in found]
    assert where == ["row"] * 8 + ["beside"] * 5 + ["object"]
    answer = send(picture_door, *[larger] * 5, model="text")
    assert (answer.status_code, answer.json()["code"]) == (413, "input-too-large")


def test_what_is_no_picture_and_larger_is_uploaded_first(picture_door: Door) -> None:
    answer = send(picture_door, {"data": base64_of(bytes(1024 * 1024 + 1))}, model="text")
    assert (answer.status_code, answer.json()["code"]) == (413, "input-too-large")
    assert "1,048,577 (POST /api/v1/uploads)" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("", "empty-input"),
        ("data:image/png;base64,", "empty-input"),
        ("data:image/png,abcd", "not-base64"),
        ("data:image/png;base64", "not-base64"),
        ("data:image/png;base64,%%%", "not-base64"),
        ("YWJj\n", "not-base64"),
        ("YWJ", "not-base64"),
        ("ñ", "not-base64"),
    ],
)
def test_what_is_not_base64_is_refused(picture_door: Door, data: str, code: str) -> None:
    answer = send(picture_door, {"data": base64_of(b"a")}, {"data": data})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == "#/inputs/1/data"


def test_a_url_lies_in_the_job(picture_door: Door) -> None:
    found = stored(picture_door, send(picture_door, {"url": PUBLIC, "name": "cat.jpg"}))[0]
    assert (found.link.url, found.link.name, found.link.size) == (PUBLIC, "cat.jpg", 0)


def test_a_network_that_the_operator_allows_may_be_named(picture_door: Door) -> None:
    assert send(picture_door, {"url": "http://10.9.1.2:8080/cat.jpg"}).status_code == 202


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://127.0.0.1/cat.jpg", "address-refused"),
        ("https://169.254.169.254/latest/meta-data/", "address-refused"),
        ("https://[::1]/cat.jpg", "address-refused"),
        ("https://10.8.0.1/cat.jpg", "address-refused"),
        ("https://2130706433/cat.jpg", "url-refused"),
        ("http://93.184.216.34/cat.jpg", "url-refused"),
        ("file:///etc/passwd", "url-refused"),
        ("https://user:secret@93.184.216.34/", "url-refused"),
        ("cat.jpg", "url-refused"),
    ],
)
def test_a_url_that_leads_inside_is_refused_at_once(picture_door: Door, url: str, code: str) -> None:
    answer = send(picture_door, {"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert "#/inputs/0/url" in answer.json()["detail"]


def test_only_pictures_are_fetched(picture_door: Door) -> None:
    answer = send(picture_door, {"url": PUBLIC}, model="text")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/inputs/0/url")


@pytest.mark.parametrize("given", [{"url": PUBLIC, "data": "YQ=="}, {}, {"url": PUBLIC, "media_type": "image/png"}])
def test_an_input_comes_from_one_place(picture_door: Door, given: dict[str, str]) -> None:
    assert send(picture_door, given).json()["code"] == "validation-failed"


def test_an_empty_list_is_refused(picture_door: Door) -> None:
    answer = send(picture_door)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/inputs")
