"""POST /inference, many at a time: they share jobs, and each is answered as it would be by itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from fleet.contracts import Job, JobState
from fleet.job_values import JobFilter
from tests.support.classifiers import MODEL
from tests.support.fleet_of_one import ROOT
from tests.support.picture_stack import ASKED, GREEN, RED, PictureStack, base64_of, picture_stack, plain, zipped
from tests.support.pictures import encoded
from tests.support.servers import Servers
from tests.support.waiting import eventually

BLUE = encoded(plain(10, 20, 250), "PNG")
NAMES = ("red", "green", "blue")
#: More than a job takes: the last of them shows in the record that the others have come.
COUNT = 24
BAD = {5: base64_of(b"hello"), 12: base64_of(RED[:-40]), 19: "not base64!"}


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PictureStack]:
    """One where requests wait as long as they may, and a slow machine's pictures share jobs, too."""
    with pytest.MonkeyPatch.context() as patch, servers.fresh() as settings:
        patch.setattr("api.inference.predictions._STORED_WITHIN_S", 50)
        patch.setattr("api.inference.picture_sizes._JOB_S", 1000)
        with picture_stack(settings, tmp_path_factory.mktemp("stack")) as running:
            yield running


def infer(stack: PictureStack, picture: str, **body: Any) -> httpx.Response:
    return stack.door.http.post("/inference", json={"model_id": MODEL, "image_base64": picture} | body)


def jobs(stack: PictureStack) -> list[Job]:
    return list(stack.door.core.jobs.page("default", JobFilter(), limit=200))


@dataclass(frozen=True)
class Crowd:
    answers: list[httpx.Response]
    jobs: list[Job]


@pytest.fixture(scope="module")
def crowd(stack: PictureStack) -> Crowd:
    """Many at a moment at which the only worker does nothing: pictures of three colours, and bad ones among them."""
    pictures = [base64_of((RED, GREEN, BLUE)[number % 3]) for number in range(COUNT)]
    pictures = [BAD.get(number, picture) for number, picture in enumerate(pictures)]
    with ThreadPoolExecutor(COUNT) as pool:
        with stack.standstill():
            asked = [pool.submit(infer, stack, picture) for picture in pictures]
            eventually(lambda: any(len(job.inputs) > 1 for job in jobs(stack)))
        answers = [each.result() for each in asked]
    return Crowd(answers, jobs(stack))


def test_each_gets_its_own_answer_in_the_shape_that_it_has_alone(stack: PictureStack, crowd: Crowd) -> None:
    alone = infer(stack, base64_of(RED)).json()
    for number, answer in enumerate(crowd.answers):
        if number in BAD:
            continue
        told = answer.json()
        assert (answer.status_code, told["result"]["top_class"]) == (200, NAMES[number % 3])
        assert (set(told), set(told["metadata"])) == (set(alone), set(alone["metadata"]))
        assert set(told["result"]) == set(alone["result"])
        assert told["metadata"]["inference_time_ms"] > 0


def test_they_share_jobs_which_the_answers_name(crowd: Crowd) -> None:
    """One that is no base64 is in none."""
    assert len(crowd.jobs) < COUNT - 1
    assert sum(len(job.inputs) for job in crowd.jobs) == COUNT - 1
    assert {job.state for job in crowd.jobs} <= {JobState.SUCCEEDED, JobState.FAILED}
    named = {answer.headers["fleet-job-id"] for number, answer in enumerate(crowd.answers) if number not in BAD}
    assert named <= {str(job.id) for job in crowd.jobs}


@pytest.mark.parametrize("number", BAD)
def test_a_bad_picture_is_refused_as_it_is_alone(stack: PictureStack, crowd: Crowd, number: int) -> None:
    answer, alone = crowd.answers[number], infer(stack, BAD[number])
    assert (answer.status_code, answer.json()) == (alone.status_code, alone.json())
    assert answer.status_code == 422
    assert "#/inputs" not in answer.text


def test_captions_are_the_same_as_alone(stack: PictureStack) -> None:
    examples = ROOT / "models" / ASKED / "example"
    pictures = [base64_of((examples / f"{number:04}.png").read_bytes()) for number in range(10)]
    body = {"model_id": ASKED, "config": {"kind": "caption"}}
    before = {job.id for job in jobs(stack)}
    with ThreadPoolExecutor(len(pictures)) as pool:
        with stack.standstill():
            asked = [pool.submit(infer, stack, picture, **body) for picture in pictures]
            eventually(lambda: any(len(job.inputs) > 1 for job in jobs(stack) if job.id not in before))
        shared = [each.result().json()["result"] for each in asked]
    alone = [infer(stack, picture, **body).json()["result"] for picture in pictures]
    assert [(set(each), each["answer"]) for each in shared] == [(set(each), each["answer"]) for each in alone]
    assert len({each["answer"] for each in alone}) > 1


def test_a_zip_and_a_repeatable_request_have_a_job_of_their_own(stack: PictureStack) -> None:
    before = {job.id for job in jobs(stack)}
    packed = base64_of(zipped([RED, GREEN]))
    body = {"model_id": MODEL, "image_base64": base64_of(GREEN)}
    with ThreadPoolExecutor(8) as pool:
        with stack.standstill():
            zips = [pool.submit(infer, stack, packed) for _ in range(4)]
            keyed = [
                pool.submit(stack.door.http.post, "/inference", json=body, headers={"Idempotency-Key": f"key-{number}"})
                for number in range(4)
            ]
            eventually(lambda: len(jobs(stack)) == len(before) + 8)
        for each in zips:
            assert [item["result"]["top_class"] for item in each.result().json()["result"]["items"]] == ["red", "green"]
        assert [each.result().json()["result"]["top_class"] for each in keyed] == ["green"] * 4
    assert all(len(job.inputs) == 1 for job in jobs(stack) if job.id not in before)
