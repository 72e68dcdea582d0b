"""Models through the front door: on their way in, versions, aliases, load and unload."""

import hashlib
import io
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fleet.catalogue import ModelState
from fleet.contracts import Pool
from fleet.errors import ModelError
from fleet.retention import Retention
from fleet.settings import Settings
from fleet.uploads import UploadStore
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.housed import claimed, finished
from tests.support.waiting import eventually

MODELS = "/api/v1/models"
WEIGHTS = b"\x08\x07 not a graph, but bytes that nobody opens here"


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    with front_door(settings) as opened:
        yield opened


def housed(door: Door, name: str = "text", version: int | None = None, **fields: Any) -> int:
    """A version that is ready."""
    body = {"name": name, "version": version, "url": "https://models.example.org/model.onnx", **fields}
    answer = door.http.post(f"{MODELS}/url", json=body)
    assert answer.status_code == 202, answer.text
    finished(door.core.models.records, claimed(door.core.models.records))
    return int(answer.json()["version"])


def told(door: Door, key: str, state: str, worker: str = "w1", **more: Any) -> None:
    """A worker says what it made of a version."""
    states = {key: ModelState(state=state, **more)}  # type: ignore[arg-type]
    door.core.catalogue.announce_worker(worker_row(worker, models=[key], model_states=states))


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return dict(answer.json())


class TestWaysIn:
    def test_an_upload_waits_for_a_worker_with_its_bytes_in_the_object_store(self, door: Door) -> None:
        sent = {
            "name": (None, "text"),
            "manifest": (None, "task: text-embedding\n"),
            "deploy": (None, "true"),
            "alias": (None, "prod, canary"),
        }
        answer = door.http.post(f"{MODELS}/upload", files=[*sent.items(), ("files", ("model.onnx", WEIGHTS))])
        assert answer.status_code == 202, answer.text
        view = answer.json()
        assert answer.headers["location"] == f"{MODELS}/text/versions/1"
        assert (view["state"], view["aliases"]) == ("requested", ["canary", "default", "prod"])
        assert door.http.get(answer.headers["location"]).json() == view
        files = {file["path"]: file for file in view["source"]["files"]}
        assert files["model.onnx"] == {
            "path": "model.onnx",
            "size": len(WEIGHTS),
            "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        }
        held = claimed(door.core.models.records)
        assert held.source.kind == "upload"
        stored = {file.path: b"".join(door.core.objects.stream(file.object)) for file in held.source.files}
        assert stored == {"model.onnx": WEIGHTS, "model.yaml": b"task: text-embedding\n"}

    @pytest.mark.parametrize("depth", [100, 1000])
    def test_a_manifest_that_is_too_deep_is_refused(self, door: Door, depth: int) -> None:
        manifest = b'{"x": ' * depth + b"1" + b"}" * depth
        body = b'{"name": "text", "url": "https://models.example.org/m.onnx", "manifest": %s}' % manifest
        answer = door.http.post(f"{MODELS}/url", content=body, headers={"content-type": "application/json"})
        assert "nested 64 deep" in problem(answer, 422, "validation-failed")["detail"]
        form = {"name": (None, "text"), "manifest": (None, manifest), "files": ("model.onnx", WEIGHTS)}
        answer = door.http.post(f"{MODELS}/upload", files=form)
        assert "nested 64 deep" in problem(answer, 422, "validation-failed")["detail"]

    def test_a_file_name_that_no_disk_takes_is_refused(self, door: Door) -> None:
        form = {"name": (None, "text"), "files": ("m" * 300 + ".onnx", WEIGHTS)}
        problem(door.http.post(f"{MODELS}/upload", files=form), 422, "validation-failed")

    def test_the_short_form_takes_uploads_too(self, door: Door) -> None:
        files = {"name": (None, "text"), "file": ("1/model.onnx", WEIGHTS)}
        answer = door.http.post("/models/upload", files=files)
        assert answer.status_code == 202, answer.text
        assert [file["path"] for file in answer.json()["source"]["files"]] == ["1/model.onnx"]

    def test_a_manifest_in_json_is_kept_apart_from_the_files(self, door: Door) -> None:
        files = {"name": (None, "text"), "manifest": ("m.json", b'{"task": "tensors"}'), "file": ("m.onnx", WEIGHTS)}
        assert door.http.post(f"{MODELS}/upload", files=files).status_code == 202
        held = claimed(door.core.models.records)
        assert held.manifest == {"task": "tensors"}

    def test_files_that_were_uploaded_before_are_named_by_their_upload(self, door: Door) -> None:
        upload = door.http.post("/api/v1/uploads", content=WEIGHTS, params={"name": "model.onnx"}).json()
        body = {"name": "text", "files": [{"upload": upload["id"]}], "config": 'name: "text"'}
        answer = door.http.post(f"{MODELS}/upload", json=body)
        assert answer.status_code == 202, answer.text
        assert [file["path"] for file in answer.json()["source"]["files"]] == ["model.onnx", "config.pbtxt"]
        # From now on the bytes belong to the version.
        problem(door.http.delete(f"/api/v1/uploads/{upload['id']}"), 409, "upload-in-use")
        finished(door.core.models.records, claimed(door.core.models.records))
        assert door.http.delete(f"/api/v1/uploads/{upload['id']}").status_code == 204

    def test_larger_than_allowed_is_refused_while_it_arrives(self, settings: Settings) -> None:
        with front_door(settings, model_max_bytes=2000, max_body_bytes=1024) as door:
            files = {"name": (None, "text"), "file": ("model.onnx", io.BytesIO(b"x" * 2001))}
            problem(door.http.post(f"{MODELS}/upload", files=files), 413, "input-too-large")
            files = {"name": (None, "text"), "file": ("model.onnx", io.BytesIO(b"x" * 10_000_000))}
            problem(door.http.post(f"{MODELS}/upload", files=files), 413, "input-too-large")
            assert door.core.models.records.versions() == []

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"name": "../text"}, "#/name"),
            ({"version": "0"}, "#/version"),
            ({"alias": "7"}, "#/aliases/0"),
            ({"colour": "red"}, "#/colour"),
            ({"manifest": "[1]"}, "#/manifest"),
        ],
    )
    def test_fields_of_a_form_are_checked(self, door: Door, fields: dict[str, str], pointer: str) -> None:
        sent = {name: (None, value) for name, value in ({"name": "text"} | fields).items()}
        answer = door.http.post(f"{MODELS}/upload", files={**sent, "file": ("model.onnx", WEIGHTS)})
        assert problem(answer, 422, "validation-failed")["errors"][0]["pointer"] == pointer

    @pytest.mark.parametrize("path", ["../model.onnx", "/etc/model.onnx", "a//b", ""])
    def test_a_file_outside_of_the_folder_is_refused(self, door: Door, path: str) -> None:
        files = [("name", (None, "text")), ("file", ("model.onnx", WEIGHTS)), ("file", (path, b"more"))]
        assert door.http.post(f"{MODELS}/upload", files=files).status_code in (400, 422)

    def test_two_files_in_one_place_and_empty_ones_are_refused(self, door: Door) -> None:
        name = ("name", (None, "text"))
        for files in (
            [("file", ("model.onnx", WEIGHTS)), ("file", ("Model.onnx", WEIGHTS))],
            [("file", ("model.onnx", WEIGHTS)), ("file", ("model.onnx/data", WEIGHTS))],
            [("file", ("model.onnx", b""))],
            [],
        ):
            problem(door.http.post(f"{MODELS}/upload", files=[name, *files]), 422, "validation-failed")

    def test_a_body_of_another_kind_is_refused(self, door: Door) -> None:
        problem(door.http.post(f"{MODELS}/upload", content=b"x"), 415, "unsupported-media")
        headers = {"content-type": "multipart/form-data"}
        problem(door.http.post(f"{MODELS}/upload", content=b"x", headers=headers), 400, "invalid-form")

    @pytest.mark.parametrize(
        ("way", "body", "kind", "name"),
        [
            ("github", {"repository": "owner/thing", "ref": "v1", "asset": "m.onnx"}, "github", "thing"),
            ("hub", {"repository": "org/model", "onnx": "onnx/model.onnx"}, "hub", "model"),
            ("hub", {"repository": "org/model", "graphs": ["onnx/a.onnx", "onnx/b.onnx"]}, "hub", "model"),
            ("url", {"name": "a", "url": "https://example.org/m.onnx?key=secret"}, "url", "a"),
            ("wheel", {"name": "a", "package": "p==1.0", "members": {"p/m.onnx": "model.onnx"}}, "wheel", "a"),
            (
                "trained",
                {"name": "a", "checkpoint_url": "https://example.org/m.onnx", "class_mapping": ["cat", "dog"]},
                "trained",
                "a",
            ),
        ],
    )
    def test_what_is_to_be_fetched_is_written_down(
        self, door: Door, way: str, body: dict[str, Any], kind: str, name: str
    ) -> None:
        answer = door.http.post(f"{MODELS}/{way}", json=body)
        assert answer.status_code == 202, answer.text
        assert "secret" not in answer.text
        held = claimed(door.core.models.records)
        assert (held.name, held.source.kind) == (name, kind)
        if held.source.kind == "hub":
            assert (held.source.onnx, held.source.graphs) == (body.get("onnx"), body.get("graphs", []))
        if held.source.kind == "trained":
            assert held.source.class_mapping == {0: "cat", 1: "dog"}
        if held.source.kind == "url":
            assert held.source.url.endswith("?key=secret")

    @pytest.mark.parametrize(
        ("way", "body"),
        [
            ("url", {"name": "a", "url": "http://127.0.0.1:9000/m.onnx"}),
            ("url", {"name": "a", "url": "https://user:pw@example.org/m.onnx"}),
            ("trained", {"name": "a", "checkpoint_url": "http://10.0.0.1/m.onnx"}),
            ("github", {"repository": "owner/thing"}),
            ("github", {"repository": "owner/thing", "path": "a", "asset": "b"}),
            ("github", {"repository": "owner/thing", "path": "../a"}),
            ("hub", {"repository": "model"}),
            ("hub", {"repository": "org/model", "onnx": "a.onnx", "graphs": ["b.onnx", "c.onnx"]}),
            ("hub", {"repository": "org/model", "graphs": ["a.onnx", "onnx/b.onnx"]}),
            ("hub", {"repository": "org/model", "graphs": ["a.onnx", "a.onnx"]}),
            ("hub", {"repository": "org/model", "graphs": ["../a.onnx"]}),
            ("wheel", {"name": "a", "package": "p", "members": {"a": "b"}}),
        ],
    )
    def test_what_cannot_be_fetched_is_refused_at_once(self, door: Door, way: str, body: dict[str, Any]) -> None:
        assert door.http.post(f"{MODELS}/{way}", json=body).status_code == 422

    def test_a_version_is_given_once(self, door: Door) -> None:
        body = {"name": "text", "version": 3, "url": "https://example.org/m.onnx"}
        assert door.http.post(f"{MODELS}/url", json=body).status_code == 202
        problem(door.http.post(f"{MODELS}/url", json=body), 409, "version-exists")
        files = {"name": (None, "text"), "version": (None, "3"), "file": ("model.onnx", WEIGHTS)}
        problem(door.http.post(f"{MODELS}/upload", files=files), 409, "version-exists")
        answer = door.http.post(f"{MODELS}/url", json={**body, "version": None})
        assert answer.json()["version"] == 4


class TestVersions:
    def test_one_on_its_way_in_is_shown_and_not_served(self, door: Door) -> None:
        records = door.core.models.records
        door.http.post(f"{MODELS}/url", json={"name": "text", "url": "https://example.org/m.onnx"})
        held = claimed(records)
        assert records.renew_import(held, 30.0, "checking", 50, 200)
        view = door.http.get(f"{MODELS}/text/versions/1").json()
        assert (view["state"], view["stage"], view["progress"]) == ("importing", "checking", 0.25)
        assert [each["name"] for each in door.http.get(MODELS).json()["arriving"]] == ["text"]
        for answer in (door.http.get(f"{MODELS}/text"), door.submit(), door.submit(version=1)):
            assert (
                "version 1 of the model 'text' is importing: checking"
                in problem(answer, 404, "model-importing")["detail"]
            )
        finished(records, held)
        assert door.http.get(f"{MODELS}/text").json()["versions"] == [1]
        assert door.submit().status_code == 202

    def test_an_import_that_failed_says_why_and_may_be_tried_again(self, door: Door) -> None:
        records = door.core.models.records
        door.http.post(f"{MODELS}/url", json={"name": "text", "url": "https://example.org/m.onnx"})
        assert records.fail_import(claimed(records), ModelError("the graph has no input").as_dict())
        assert "the graph has no input" in problem(door.submit(), 404, "model-import-failed")["detail"]
        assert door.http.get(f"{MODELS}/text/versions/1").json()["error"]["message"] == "the graph has no input"
        assert door.http.post(f"{MODELS}/text/versions/1/retry").json()["state"] == "requested"
        problem(door.http.post(f"{MODELS}/text/versions/1/retry"), 409, "import-not-failed")
        finished(records, claimed(records))
        assert door.submit().status_code == 202

    def test_versions_of_folders_stand_beside_those_that_were_brought_in(self, door: Door) -> None:
        door.announce(card("text", 1))
        assert housed(door) == 2
        views = door.http.get(f"{MODELS}/text/versions").json()["versions"]
        assert [(view["version"], view["state"], view["source"]["kind"]) for view in views] == [
            (1, "ready", "folder"),
            (2, "ready", "url"),
        ]
        problem(door.http.delete(f"{MODELS}/text/versions/1"), 409, "version-in-folder")

    def test_a_version_that_is_in_use_is_removed_only_by_force(self, door: Door) -> None:
        first, second, third = housed(door), housed(door), housed(door, aliases=["prod"])
        problem(door.http.delete(f"{MODELS}/text/versions/{third}"), 409, "version-in-use")
        assert door.http.delete(f"{MODELS}/text/versions/{second}").status_code == 204
        assert door.http.get(f"{MODELS}/text").json()["versions"] == [first, third]
        assert door.http.delete(f"{MODELS}/text/versions/{third}", params={"force": True}).status_code == 204
        assert door.http.get(f"{MODELS}/text").json()["version"] == first
        problem(door.http.get(f"{MODELS}/text@prod"), 404, "alias-not-found")
        assert door.http.delete(f"{MODELS}/text/versions/{first}").status_code == 204
        problem(door.http.get(f"{MODELS}/text"), 404, "model-not-found")


class TestAliases:
    def test_a_job_records_the_version_that_its_alias_stood_for(self, door: Door) -> None:
        old, new = housed(door), housed(door)
        assert door.accepted()["version"] == new
        put = door.http.put(f"{MODELS}/text/aliases/prod", json={"version": old})
        assert put.json() == {"name": "text", "alias": "prod", "version": old}
        assert (door.accepted(model="text@prod")["model"], door.accepted(model="text@prod")["version"]) == ("text", old)
        assert door.accepted(model=f"text@{new}")["version"] == new
        detail = problem(door.submit(model="text@canary"), 404, "alias-not-found")["detail"]
        assert "it has: prod" in detail
        problem(door.submit(model="text@prod", version=new), 422, "validation-failed")

    def test_an_alias_that_moved_is_seen_by_every_front_door(self, settings: Settings) -> None:
        with front_door(settings) as here, front_door(settings) as there:
            old, new = housed(here), housed(here)
            assert there.accepted()["version"] == new
            assert here.http.put(f"{MODELS}/text/aliases/default", json={"version": old}).status_code == 200
            eventually(lambda: there.accepted()["version"] == old)
            assert there.http.delete(f"{MODELS}/text/aliases/default").status_code == 204
            eventually(lambda: here.accepted()["version"] == new)

    def test_an_alias_needs_a_version_that_can_be_served(self, door: Door) -> None:
        housed(door)
        problem(door.http.put(f"{MODELS}/text/aliases/prod", json={"version": 7}), 404, "model-not-found")
        assert door.http.put(f"{MODELS}/text/aliases/7", json={"version": 1}).status_code == 422
        problem(door.http.delete(f"{MODELS}/text/aliases/prod"), 404, "alias-not-found")


class TestLoading:
    def test_deploying_waits_for_a_worker_that_has_it_ready(self, door: Door) -> None:
        old, new = housed(door, deploy=True), housed(door)
        told(door, f"text/{old}", "READY")
        answers: list[httpx.Response] = []
        path = f"{MODELS}/text/versions/{new}/deploy"
        waiting = threading.Thread(target=lambda: answers.append(door.http.post(path, json={"wait_s": 30})))
        waiting.start()
        eventually(lambda: [d.desire for d in door.core.models.records.desires()] == ["loaded"])
        assert door.http.get(f"{MODELS}/text").json()["version"] == old
        told(door, f"text/{new}", "READY", generation=door.core.models.records.desires()[0].generation)
        waiting.join()
        (answer,) = answers
        assert answer.status_code == 200, answer.text
        assert answer.json()["default_version"] == new
        # Proven is not pinned.
        assert door.core.models.records.desires() == []
        # Back to the old one, which the worker has, or another is found to have.
        told(door, f"text/{old}", "READY", worker="w2")
        assert door.http.post(f"{MODELS}/text/versions/{old}/deploy").json()["default_version"] == old

    def test_a_version_that_no_worker_can_load_changes_nothing(self, door: Door) -> None:
        old, new = housed(door, deploy=True), housed(door)
        told(door, f"text/{new}", "UNAVAILABLE", reason="needs 9 GB, and 4 GB are there", generation=1)
        answer = door.http.post(f"{MODELS}/text/versions/{new}/deploy", json={"wait_s": 30})
        assert "w1: UNAVAILABLE: needs 9 GB" in problem(answer, 409, "model-refused")["detail"]
        told(door, f"text/{new}", "LOADING")
        answer = door.http.post(f"{MODELS}/text/versions/{new}/deploy", json={"wait_s": 0.3})
        assert problem(answer, 503, "model-not-ready")["facts"]["workers"] == {"w1": "LOADING"}
        assert door.http.get(f"{MODELS}/text").json()["version"] == old
        assert door.core.models.records.desires() == []

    def test_without_a_worker_nothing_is_deployed(self, door: Door) -> None:
        new = housed(door)
        told(door, f"text/{new}", "READY")
        door.core.catalogue.withdraw_worker("w1", 1)
        problem(door.http.post(f"{MODELS}/text/versions/{new}/deploy"), 503, "no-capable-worker")
        assert door.http.get(f"{MODELS}/text").json()["aliases"] == {}

    def test_an_unloaded_version_refuses_jobs_until_it_is_loaded(self, door: Door) -> None:
        version = housed(door)
        waits = door.accepted()
        told(door, f"text/{version}", "READY")
        status = door.http.post(f"{MODELS}/text/versions/{version}/unload").json()
        assert status["versions"][0]["desire"] == "unloaded"
        eventually(lambda: door.submit().status_code == 503)
        assert f"/versions/{version}/load" in problem(door.submit(), 503, "model-unloaded")["detail"]
        assert door.run(waits["id"]).state == "succeeded"
        answer = door.http.post(f"{MODELS}/text/versions/{version}/unload", json={"wait_s": 0.3})
        problem(answer, 503, "model-not-ready")
        assert door.http.get("/api/v1/monitoring/models/text/health").json()["status"] == "unavailable"
        assert door.http.post(f"{MODELS}/text/versions/default/load").status_code == 200
        eventually(lambda: door.submit().status_code == 202)

    def test_the_status_says_what_every_worker_made_of_a_version(self, door: Door) -> None:
        first, second = housed(door), housed(door)
        told(door, f"text/{second}", "READY", memory_bytes=5000)
        told(door, f"text/{first}", "UNAVAILABLE", worker="w2", reason="out of memory")
        door.http.post(f"{MODELS}/text/versions/{first}/load")
        status = door.http.get(f"{MODELS}/text/status").json()
        assert status["default_version"] == second
        ones = {each["version"]: each for each in status["versions"]}
        assert (ones[first]["desire"], ones[second]["desire"]) == ("loaded", None)
        states = {at["worker"]: (at["state"], at["reason"], at["memory_bytes"]) for at in ones[first]["workers"]}
        assert states == {"w1": (None, "", None), "w2": ("UNAVAILABLE", "out of memory", None)}
        assert ones[second]["loaded_workers"] == 1

    def test_the_health_of_a_model_names_what_is_wrong(self, door: Door) -> None:
        version = housed(door)
        health = "/api/v1/monitoring/models/text/health"
        assert door.http.get(health).json()["reasons"] == ["no worker lives that can take its jobs"]
        told(door, f"text/{version}", "READY")
        assert door.http.get(health).json()["status"] == "healthy"
        told(door, f"text/{version}", "UNAVAILABLE", reason="out of memory")
        assert door.http.get(health).json()["reasons"] == ["w1: out of memory"]
        problem(door.http.get("/api/v1/monitoring/models/nothing/health"), 404, "model-not-found")


def test_only_workers_that_could_serve_a_version_count_for_it(door: Door) -> None:
    door.announce(card("big", 1, device="gpu-only"))
    door.core.catalogue.announce_worker(worker_row("w1", models=["big/1"]))
    problem(door.http.post(f"{MODELS}/big/versions/1/deploy"), 503, "no-capable-worker")
    states = {"big/1": ModelState(state="READY")}
    row = worker_row("g1", Pool.GPU, models=["big/1"], model_states=states)
    door.core.catalogue.announce_worker(row)
    assert door.http.post(f"{MODELS}/big/versions/1/deploy").json()["aliases"] == {"default": 1}


def test_bytes_of_an_import_are_not_swept_before_it_has_ended(settings: Settings) -> None:
    """Neither as an upload that nobody used, nor as the input of a job that is gone, nor as nobody's object."""
    with front_door(settings, upload_ttl_s=60) as door:
        upload = door.http.post("/api/v1/uploads", content=WEIGHTS, params={"name": "model.onnx"}).json()
        job = door.announce(card()) or door.accepted(inputs=[{"upload": upload["id"]}])
        body = {"name": "other", "files": [{"upload": upload["id"]}]}
        assert door.http.post(f"{MODELS}/upload", json=body).status_code == 202
        door.run(job["id"])
        database, retention = door.core.database, Retention(door.core.database)
        # The job and its inputs are given up, and the upload's time is over long since.
        retention.give_up_inputs([door.id(job["id"])])
        assert retention.upload_fates([door.id(upload["id"])])[door.id(upload["id"])].abandoned is False
        database.run("UPDATE upload SET used_at = NULL, expires_at = expires_at - interval '2 days'")
        assert UploadStore(database).stale(10) == []
        finished(door.core.models.records, claimed(door.core.models.records), task="tensors")
        assert [stale.id for stale in UploadStore(database).stale(10)] == [door.id(upload["id"])]
