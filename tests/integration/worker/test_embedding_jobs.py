"""Texts through a real worker: from the params, as an object of JSON lines, and what is refused."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fleet.contracts import Job, JobInput, JobState
from fleet.embeddings import EmbeddingResult
from fleet.ids import new_id
from fleet.jobs import JobStore
from fleet.objects import ObjectStore, upload_key
from fleet.settings import Settings
from tests.support.fleet_of_one import job_store, new_job, submit, wait_for, worker_process
from tests.support.front_door import front_door
from tests.support.tiny_embedder import MODEL, WIDTH, expected, make_model
from tests.support.waiting import eventually


@pytest.fixture
def jobs(settings: Settings, tmp_path: Path) -> Iterator[JobStore]:
    make_model(tmp_path / "models", batching={"max_batch_size": 16, "dynamic": True, "instances": 2})
    places = {"MODELS_PATH": str(tmp_path / "models")}
    with worker_process(settings, tmp_path / "worker", **places), job_store(settings) as store:
        yield store


def test_texts_become_vectors_and_what_is_wrong_is_told(settings: Settings, jobs: JobStore) -> None:
    texts = ["the red cat sleeps", "bird", "the dog runs"]
    job = wait_for(jobs, send(settings, jobs, {"input": texts, "kind": "query"}).id)
    assert job.state is JobState.SUCCEEDED, job.error
    result = EmbeddingResult.model_validate(job.result)
    vectors = np.frombuffer(result.vectors(), "<f4").reshape(3, WIDTH)
    np.testing.assert_allclose(vectors, [expected(f"query : {text}") for text in texts], atol=1e-6)
    assert (result.tokens, result.total_tokens) == ([8, 5, 7], 20)

    refused = wait_for(jobs, send(settings, jobs, {"input": ["red", ""]}).id)
    assert refused.state is JobState.FAILED
    assert refused.error is not None
    assert (refused.error.code, refused.error.facts) == ("text-empty", {"pointer": "#/params/input/1", "item": 1})
    assert refused.attempt == 1


def test_an_object_of_lines_becomes_an_object_of_vectors(settings: Settings, jobs: JobStore, tmp_path: Path) -> None:
    texts = [f"the {colour} {animal}" for colour in ("red", "green", "blue") for animal in ("cat", "dog")] * 700
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    objects = ObjectStore(settings)
    key = upload_key("default", new_id(), "texts.jsonl")
    reference = objects.put_bytes(key, lines, media_type="application/jsonl", name="texts.jsonl")
    job = wait_for(jobs, send(settings, jobs, {}, [JobInput(object=reference)]).id)
    assert job.state is JobState.SUCCEEDED, job.error
    files = {artifact.name: tmp_path / artifact.name for artifact in job.artifacts}
    for artifact in job.artifacts:
        objects.fetch(artifact.object, files[artifact.name])
    np.testing.assert_allclose(np.load(files["embeddings.npy"])[:6], [expected(text) for text in texts[:6]], atol=1e-6)
    assert np.load(files["embeddings.npy"]).shape == (len(texts), WIDTH)
    assert np.load(files["tokens.npy"]).tolist() == [5] * len(texts)
    result = EmbeddingResult.model_validate(job.result)
    assert (result.count, result.total_tokens, result.tokens) == (len(texts), 5 * len(texts), None)
    assert job.ran_on is not None
    assert job.ran_on.batch_size > 1


def test_texts_come_through_the_front_door_as_params_and_as_an_input(settings: Settings, tmp_path: Path) -> None:
    make_model(tmp_path / "models")
    worker = worker_process(settings, tmp_path / "worker", MODELS_PATH=str(tmp_path / "models"))
    with front_door(settings, max_wait_s=60) as door, worker:
        eventually(door.core.catalogue.workers)
        lines = {"data": base64.b64encode(b'"red"\n"the blue bird"\n').decode(), "media_type": "application/jsonl"}
        bodies: list[dict[str, Any]] = [
            {"params": {"input": ["red", "the blue bird"]}},
            {"inputs": [lines]},
        ]
        for body in bodies:
            asked = {"model": MODEL, **body}
            answer = httpx.post(f"{door.url}/api/v1/jobs", json=asked, headers={"Prefer": "wait=60"}, timeout=90)
            assert answer.status_code == 200, answer.text
            assert answer.json()["state"] == "succeeded", answer.text
            result = EmbeddingResult.model_validate(answer.json()["result"])
            vectors = np.frombuffer(result.vectors(), "<f4").reshape(2, WIDTH)
            np.testing.assert_allclose(vectors, [expected("red"), expected("the blue bird")], atol=1e-6)
        wrong = httpx.post(f"{door.url}/api/v1/jobs", json={"model": MODEL, "params": {"dimensions": 0}})
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "#/params/dimensions")


def send(settings: Settings, jobs: JobStore, params: dict[str, Any], inputs: list[JobInput] | None = None) -> Job:
    return submit(settings, jobs, new_job(MODEL, "text-embedding", params=params, inputs=inputs or []))
