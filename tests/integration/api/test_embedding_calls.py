"""Requests for embeddings against a real worker: in parts, together with others, and left alone by who asked."""

import base64
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fleet.contracts import Job, JobState
from fleet.embeddings import TASK_NAME
from fleet.job_values import JobFilter
from fleet.settings import Settings
from tests.support.fleet_of_one import worker_process
from tests.support.front_door import Door, front_door
from tests.support.tiny_embedder import MAX_TOKENS, MODEL, TABLE, WIDTH, expected, make_model
from tests.support.waiting import eventually
from worker.contract import Array

ANIMALS = [f"the {colour} {animal}" for colour in ("red", "green", "blue") for animal in ("cat", "dog", "bird")]


class Scene:
    """A front door, and the process of its only worker."""

    def __init__(self, door: Door, worker: subprocess.Popen[bytes]) -> None:
        self.door = door
        self._worker = worker

    def ask(self, texts: Sequence[Any], **body: Any) -> httpx.Response:
        headers = body.pop("headers", {})
        body = {"model": MODEL, "input": texts, "encoding_format": "base64", **body}
        return self.door.http.post("/v1/embeddings", json=body, headers=headers)

    def jobs(self) -> list[Job]:
        """Oldest first."""
        found = self.door.core.jobs.page("default", JobFilter(), limit=100)
        return sorted(found, key=lambda job: job.created_at)

    @contextmanager
    def standstill(self) -> Iterator[None]:
        self._worker.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._worker.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_model(folder, batching={"max_batch_size": 16, "dynamic": True, "instances": 2})
    return folder


@pytest.fixture
def scene(settings: Settings, models: Path, tmp_path: Path) -> Iterator[Scene]:
    with scene_of(settings, models, tmp_path / "worker") as running:
        yield running


@contextmanager
def scene_of(settings: Settings, models: Path, folder: Path, **changes: Any) -> Iterator[Scene]:
    process = worker_process(settings, folder, MODELS_PATH=str(models))
    with front_door(settings, **{"max_wait_s": 60, **changes}) as door, process as worker:
        eventually(lambda: any(f"{MODEL}/1" in live.word.models for live in door.core.catalogue.workers()))
        yield Scene(door, worker)


def vectors(answer: httpx.Response) -> Array:
    assert answer.status_code == 200, answer.text
    rows = [base64.b64decode(item["embedding"]) for item in answer.json()["data"]]
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1)


def test_many_texts_are_several_jobs_and_come_back_in_order(scene: Scene) -> None:
    texts = [ANIMALS[number % 9] + (" runs" if number % 7 == 0 else "") for number in range(2048)]
    answer = scene.ask(texts)
    np.testing.assert_allclose(vectors(answer), [expected(text) for text in texts], atol=1e-6)
    assert answer.json()["usage"]["prompt_tokens"] == sum(len(text.split()) + 2 for text in texts)
    jobs = scene.jobs()
    assert sorted(answer.headers["fleet-job-id"].split(", ")) == sorted(str(job.id) for job in jobs)
    assert len(jobs) > 1
    places = sorted((job.params["part"]["number_from"], len(job.params["input"])) for job in jobs)
    assert sum(count for _, count in places) == 2048
    assert all(job.params["part"]["of"] == 2048 and job.version == 1 for job in jobs)
    eventually(lambda: success_of(scene) == 1)


def test_a_request_whose_job_a_crash_of_the_record_took_is_told_to_come_again(scene: Scene) -> None:
    """Nothing of it had reached the disk, and nothing had run."""
    with scene.standstill(), ThreadPoolExecutor(1) as thread:
        asking = thread.submit(scene.ask, ["the red cat"])
        eventually(lambda: len(scene.jobs()) == 1)
        scene.door.core.database.run("DELETE FROM job")
        answer = asking.result(timeout=30)
    assert answer.status_code == 503
    assert "send the request again" in answer.json()["error"]["message"]
    np.testing.assert_allclose(vectors(scene.ask(["the red cat"])), [expected("the red cat")], atol=1e-6)


def test_a_part_that_fails_names_the_text_of_the_request_and_ends_the_others(scene: Scene) -> None:
    texts = ANIMALS * 220
    texts[1900] = "red " * MAX_TOKENS
    answer = scene.ask(texts)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert "text 1900 has" in answer.json()["error"]["message"]
    assert len(scene.jobs()) > 1
    eventually(lambda: all(job.state.ended for job in scene.jobs()))


def test_more_texts_than_the_model_takes_are_too_many_in_parts_as_well(scene: Scene) -> None:
    answer = scene.ask(["the red cat"] * 3000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_texts")
    assert "3,000 texts" in answer.json()["error"]["message"]


def test_more_tokens_than_the_model_takes_are_too_many_in_parts_as_well(settings: Settings, tmp_path: Path) -> None:
    make_model(tmp_path / "models", pipeline={"max_total_tokens": 11_000})
    with scene_of(settings, tmp_path / "models", tmp_path / "worker") as scene:
        answer = scene.ask(["the red cat runs the dog"] * 1400)
        assert len(scene.jobs()) > 1
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_tokens")
        assert (answer.json()["error"]["param"], "11,000" in answer.json()["error"]["message"]) == ("input", True)


def test_what_no_job_can_keep_is_refused_and_no_log_quotes_it(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    answer = scene.ask(["secret " * 4_700_000])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_tokens")
    assert not any("secret" in record.getMessage() + str(record.exc_text) for record in caplog.records)


@pytest.mark.parametrize("count", [300, 2000])
def test_vectors_that_do_not_fit_in_the_record_come_from_the_object_store(
    settings: Settings, tmp_path: Path, count: int
) -> None:
    wide: Array = np.tile(TABLE, 12)
    make_model(tmp_path / "models", table=wide)
    with scene_of(settings, tmp_path / "models", tmp_path / "worker") as scene:
        texts = [f"{ANIMALS[number % 9]} runs runs runs" for number in range(count)]
        rows = vectors(scene.ask(texts))
        artifacts = [artifact for job in scene.jobs() for artifact in job.artifacts]
        assert sum(artifact.object.size for artifact in artifacts) > count * rows.shape[1] * 4
        own = [vectors(scene.ask([text]))[0] for text in texts[:9]]
        np.testing.assert_allclose(rows, np.tile(own, (count // 9 + 1, 1))[:count], atol=1e-6)


def test_small_requests_of_a_moment_share_a_job_and_each_gets_its_own(scene: Scene) -> None:
    asked: list[list[str]] = [["the red cat"], ["green dog"], ["blue bird runs"], ANIMALS[:3], ["red " * MAX_TOKENS]]
    asked += [[f"{animal} sleeps"] for animal in ANIMALS]
    with ThreadPoolExecutor(len(asked)) as pool:
        with scene.standstill():
            waiting: list[Future[httpx.Response]] = [pool.submit(scene.ask, asked[0]), pool.submit(scene.ask, asked[1])]
            eventually(lambda: len(scene.jobs()) == 2)
            waiting += [pool.submit(scene.ask, texts) for texts in asked[2:]]
        answers = [future.result() for future in waiting]
    refused = answers.pop(4)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    del asked[4]
    for texts, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(vectors(answer), [expected(text) for text in texts], atol=1e-6)
        assert answer.json()["usage"]["total_tokens"] == sum(len(text.split()) + 2 for text in texts)
    jobs = scene.jobs()
    joined = [job for job in jobs if "joined" in job.params]
    assert joined
    assert len(jobs) < len(asked)
    for job in joined:
        assert sum(job.params["joined"]) == len(job.params["input"])
    # Each request is counted, however many share a job.
    eventually(lambda: success_of(scene) == len(asked) + 1)


def test_a_request_alone_is_a_job_like_any_other(scene: Scene) -> None:
    answer = scene.ask(["the red cat"])
    np.testing.assert_allclose(vectors(answer), [expected("the red cat")], atol=1e-6)
    (job,) = scene.jobs()
    assert job.params == {"input": ["the red cat"]}
    assert (job.task, job.state) == (TASK_NAME, JobState.SUCCEEDED)


def test_texts_that_the_record_cannot_keep_are_embedded_all_the_same(scene: Scene) -> None:
    answer = scene.ask(["red\0cat", "the dog"])
    assert vectors(answer).shape == (2, WIDTH)
    np.testing.assert_allclose(vectors(answer)[1], expected("the dog"), atol=1e-6)
    large = ["\0cat"] * 1500 + ["\0" + " " * 70_000 + "cat"]
    assert vectors(scene.ask(large)).shape == (1501, WIDTH)


def test_a_repeat_with_the_same_key_is_the_same_job(scene: Scene) -> None:
    first, second = (scene.ask(ANIMALS, headers={"Idempotency-Key": "once"}) for _ in range(2))
    np.testing.assert_array_equal(vectors(first), vectors(second))
    assert first.headers["fleet-job-id"] == second.headers["fleet-job-id"]
    assert len(scene.jobs()) == 1


def test_a_repeat_with_the_same_key_gets_what_its_first_client_did_not_wait_for(scene: Scene) -> None:
    headers = {"Idempotency-Key": "once"}
    with scene.standstill():
        body = {"model": MODEL, "input": ANIMALS, "encoding_format": "base64"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{scene.door.url}/v1/embeddings", json=body, headers=headers, timeout=1.5, trust_env=False)
        (job,) = scene.jobs()
    answer = scene.ask(ANIMALS, headers=headers)
    np.testing.assert_allclose(vectors(answer), [expected(text) for text in ANIMALS], atol=1e-6)
    assert answer.headers["fleet-job-id"] == str(job.id)


@pytest.mark.parametrize("count", [1, 2040])
def test_who_hangs_up_cancels_his_jobs(scene: Scene, count: int) -> None:
    with scene.standstill():
        body = {"model": MODEL, "input": ["the red cat runs"] * count}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{scene.door.url}/v1/embeddings", json=body, timeout=1.5, trust_env=False)
        eventually(lambda: [job for job in scene.jobs() if job.cancel_requested or job.state.ended])
        eventually(lambda: all(job.cancel_requested or job.state.ended for job in scene.jobs()))
    eventually(lambda: {job.state for job in scene.jobs()} == {JobState.CANCELLED})


def test_a_request_ends_when_its_time_is_over_and_so_does_its_job(
    settings: Settings, models: Path, tmp_path: Path
) -> None:
    with scene_of(settings, models, tmp_path / "worker", max_wait_s=1) as scene, scene.standstill():
        answer = scene.ask(["the red cat"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "expired")
        eventually(lambda: all(job.cancel_requested or job.state.ended for job in scene.jobs()))


@pytest.mark.parametrize("count", [1, 20, 2040])
def test_where_nobody_may_wait_there_is_no_time_for_an_answer(
    settings: Settings, models: Path, tmp_path: Path, count: int
) -> None:
    with scene_of(settings, models, tmp_path / "worker", max_wait_s=0) as scene:
        answer = scene.ask(["the red cat runs"] * count)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "expired")


def success_of(scene: Scene) -> int:
    return sum(usage.success for usage in scene.door.core.serving.usage(MODEL).values())
