"""Pictures named by how their keys begin: only where the tenant may read, a bounded number, in the order of names."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from api.owned_objects import MAX_OBJECTS
from fleet.contracts import Artifact, MediaKind, ResultKind
from fleet.objects import result_key
from tests.support.front_door import Door, card, front_door
from tests.support.servers import Servers

CARD = card("picture", task="image-classification", accepts=MediaKind.IMAGE, returns=ResultKind.ITEMS, params_schema={})
KEYS = "acme:one,acme2:two"


@pytest.fixture(scope="module")
def doors(servers: Servers) -> Iterator[Door]:
    with servers.fresh() as settings, front_door(settings, api_keys=SecretStr(KEYS)) as opened:
        opened.announce(CARD, card("text"))
        yield opened


def send(door: Door, *inputs: dict[str, Any], key: str = "one", model: str = "picture") -> httpx.Response:
    return door.submit({"Authorization": f"Bearer {key}"}, model=model, inputs=list(inputs))


def prefix(door: Door, key: str) -> dict[str, Any]:
    return {"prefix": {"bucket": door.core.objects.bucket, "key": key}}


def put(door: Door, *keys: str) -> None:
    for key in keys:
        door.core.objects.put_bytes(key, key.encode(), media_type="image/png", name="x")


def keys_of(door: Door, answer: httpx.Response, tenant: str = "acme") -> list[str]:
    assert answer.status_code == 202, answer.text
    job = door.core.jobs.get(door.id(answer.json()["id"]), tenant)
    return [item.object.key for item in job.inputs if item.object is not None]


def test_all_that_begin_so_are_inputs_in_the_order_of_their_names(doors: Door) -> None:
    wanted = [f"inputs/acme/order/{name}" for name in ("B.png", "a.png", "sub.png", "sub/c.png", "z.png")]
    put(doors, *reversed(wanted), "inputs/acme/ordered.png", "inputs/acme2/order/d.png")
    answer = send(doors, prefix(doors, "inputs/acme/order/"))
    assert keys_of(doors, answer) == sorted(wanted)
    shown = answer.json()["inputs"]
    assert [(one["name"], one["size"]) for one in shown] == [(key, len(key)) for key in sorted(wanted)]
    assert keys_of(doors, send(doors, prefix(doors, "inputs/acme/order/s"))) == wanted[2:4]


def test_a_single_object_laid_there_may_be_named(doors: Door) -> None:
    put(doors, "inputs/acme/single.png")
    given = {"object": {"bucket": doors.core.objects.bucket, "key": "inputs/acme/single.png"}}
    assert keys_of(doors, send(doors, given)) == ["inputs/acme/single.png"]
    assert (send(doors, given, key="two").status_code, send(doors, given, key="two").json()["code"]) == (
        422,
        "foreign-object",
    )


@pytest.mark.parametrize(
    "key",
    [
        "",
        "inputs/",
        "inputs/acme",
        "inputs/acme2/",
        "inputs/acme/../acme2/",
        "inputs/acme/./",
        "inputs/acme//x",
        "uploads/acme2/",
        "uploads/",
        "models/",
        "results/",
        "inputs/acme/x/../../../models/",
    ],
)
def test_what_is_not_the_tenants_is_refused(doors: Door, key: str) -> None:
    put(doors, "inputs/acme2/secret.png", "inputs/acme/mine.png")
    answer = send(doors, prefix(doors, key))
    assert (answer.status_code, answer.json()["code"]) == (422, "foreign-object")


def test_another_bucket_is_refused(doors: Door) -> None:
    answer = send(doors, {"prefix": {"bucket": "elsewhere", "key": "inputs/acme/"}})
    assert (answer.status_code, answer.json()["code"]) == (422, "foreign-object")


def test_uploads_are_found_once_their_bytes_are_there_and_then_belong_to_the_job(doors: Door) -> None:
    mine = {"Authorization": "Bearer one"}
    for name, content in (("b.png", b"bb"), ("a.png", b"a"), ("never.png", None)):
        size = len(content or b"???")
        ticket = doors.http.post("/api/v1/uploads", json={"name": name, "size": size}, headers=mine).json()
        if content is not None:
            httpx.put(ticket["url"], content=content).raise_for_status()
    answer = send(doors, prefix(doors, "uploads/acme/"))
    keys = keys_of(doors, answer)
    assert [key.rsplit("/", 1)[1] for key in keys] == ["a.png", "b.png"]
    deletion = doors.http.delete(f"/api/v1/uploads/{keys[0].split('/')[2]}", headers=mine)
    assert (deletion.status_code, deletion.json()["code"]) == (409, "upload-in-use")
    assert send(doors, prefix(doors, "uploads/acme2/"), key="two").json()["code"] == "no-pictures"


def test_results_of_a_job_of_the_tenant_are_found(doors: Door) -> None:
    first = send(doors, {"data": "aGVsbG8="})
    job_id = first.json()["id"]
    artifacts = []
    for name in ("preview-1.png", "preview-0.png"):
        stored = doors.core.objects.put_bytes(
            result_key(doors.id(job_id), 1, name), b"png", media_type="image/png", name=name
        )
        artifacts.append(Artifact(name=name, object=stored))
    put(doors, f"results/{job_id}/2/of-a-loser.png")
    doors.run(job_id, {"count": 2}, artifacts=artifacts)
    found = keys_of(doors, send(doors, prefix(doors, f"results/{job_id}/")))
    assert [key.rsplit("/", 1)[1] for key in found] == ["preview-0.png", "preview-1.png"]
    assert send(doors, prefix(doors, f"results/{job_id}/"), key="two").json()["code"] == "no-pictures"


def test_nothing_under_a_prefix_is_said(doors: Door) -> None:
    answer = send(doors, prefix(doors, f"inputs/acme/{uuid4()}/"))
    assert (answer.status_code, answer.json()["code"]) == (422, "no-pictures")


def test_more_than_a_job_takes_are_refused(doors: Door) -> None:
    put(doors, *(f"inputs/acme/many/{number}" for number in range(MAX_OBJECTS - 600)))
    half = prefix(doors, "inputs/acme/many/")
    assert len(keys_of(doors, send(doors, half, half))) == 2 * (MAX_OBJECTS - 600)
    answer = send(doors, half, half, half)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-many-files")
    # Nothing is looked for behind the one that makes it too many.
    answer = send(doors, half, half, half, prefix(doors, "inputs/acme/nothing/"))
    assert (answer.status_code, answer.json()["code"]) == (413, "too-many-files")


def test_only_pictures_are_read_from_a_prefix(doors: Door) -> None:
    put(doors, "inputs/acme/text/a.txt")
    answer = send(doors, prefix(doors, "inputs/acme/text/"), model="text")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/inputs/0/prefix")
