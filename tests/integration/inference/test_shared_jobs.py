"""Which requests of the short form share a job, and what each is told, whatever the worker makes of it: played here."""

import base64
import http.client
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from fleet.contracts import Artifact, Job, JobState, MediaKind, ResultKind
from fleet.errors import FleetError, InputError, ModelError, RunStopped
from fleet.job_items import ITEMS_NAME, MAX_INLINE_BYTES
from fleet.job_values import Ending, JobFilter
from fleet.objects import result_key
from fleet.settings import Settings
from tests.support.front_door import Door, card, front_door, worker_row
from tests.support.waiting import eventually

MODEL, OTHER = "looker", "other"
KEYS = {"alice": "key-of-alice", "bob": "key-of-bob"}
PARAMS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"top_k": {"type": "integer"}, "preview": {"type": "boolean"}, "prompt": {"type": "string"}},
}
#: With one worker; and how many share a job while nothing is known of a model.
AT_ONCE, FIRST = 2, 4
Asked = Future[httpx.Response]
JSON = dict[str, Any]


class Played:
    """A front door whose only worker is the test. A picture is a word here, and its answer says which."""

    def __init__(self, door: Door, pool: ThreadPoolExecutor) -> None:
        self.door = door
        self._pool = pool

    def ask(self, picture: str, *, tenant: str = "alice", **body: Any) -> Asked:
        content = base64.b64encode(picture.encode()).decode()
        sent = {"model_id": MODEL, "image_base64": content, **body}
        headers = {"authorization": f"Bearer {KEYS[tenant]}"}
        return self._pool.submit(self.door.http.post, "/inference", json=sent, headers=headers)

    def waiting(self, count: int, tenant: str = "alice") -> list[Job]:
        """The jobs that wait, oldest first, once there are so many."""

        def found() -> list[Job]:
            jobs = self.door.core.jobs.page(tenant, JobFilter(), limit=100)
            return sorted((job for job in jobs if not job.state.ended), key=lambda job: job.created_at)

        eventually(lambda: len(found()) >= count)
        jobs = found()
        assert len(jobs) == count
        return jobs

    def crowd(self, *pictures: str) -> tuple[dict[str, Asked], Job]:
        """One request more than share a job -> each one's, and the job.

        They come while two others keep the fleet busy, and these have ended when this returns.
        """
        assert len(pictures) == FIRST + 1
        for number in range(AT_ONCE):
            self.ask(f"before {number}")
        before = self.waiting(AT_ONCE)
        asked = {picture: self.ask(picture) for picture in pictures}
        shared = self.waiting(AT_ONCE + 1)[-1]
        assert len(shared.inputs) == FIRST
        for job in before:
            self.finish(job, saw(job)[0]["result"])
        return asked, shared

    def finish(self, job: Job, result: JSON, *artifacts: Artifact, infer_s: float = 0.1) -> None:
        claimed, jobs = self._claimed(job), self.door.core.jobs
        ending = Ending({"infer": infer_s}, None)
        self._told(jobs.finish(claimed, result=result, artifacts=list(artifacts), inputs=claimed.inputs, ending=ending))

    def end(self, job: Job, error: FleetError) -> None:
        claimed, jobs, ending = self._claimed(job), self.door.core.jobs, Ending({}, None)
        if isinstance(error, RunStopped):
            self._told(jobs.stop(claimed, JobState.EXPIRED, error, ending))
        else:
            self._told(jobs.fail(claimed, error, ending))

    def stored(self, job: Job, name: str, content: bytes) -> Artifact:
        objects = self.door.core.objects
        kept = objects.put_bytes(result_key(job.id, 1, name), content, media_type="application/jsonl", name=name)
        return Artifact(name=name, object=kept)

    def _claimed(self, job: Job) -> Job:
        claim = self.door.core.jobs.claim(job.id, "test-worker", 30.0)
        assert claim is not None
        return claim.job

    def _told(self, ended: Job | None) -> None:
        assert ended is not None
        self.door.core.broker.tell_ended(ended.id, ended.state)


def words(job: Job) -> list[str]:
    return [base64.b64decode(each.inline.data).decode() for each in job.inputs if each.inline is not None]


def saw(job: Job, **more: Any) -> list[JSON]:
    return [{"index": index, "name": "", "result": {"saw": word, **more}} for index, word in enumerate(words(job))]


def listed(items: Sequence[JSON], **facts: Any) -> JSON:
    failed = sum("error" in item for item in items)
    return {"count": len(items), "succeeded": len(items) - failed, "failed": failed, "items": items, **facts}


def answer(asked: Asked) -> JSON:
    told = asked.result()
    assert told.status_code == 200, told.text
    assert set(told.json()) == {"success", "result", "metadata"}
    return dict(told.json())


@contextmanager
def played_on(settings: Settings, **changes: Any) -> Iterator[Played]:
    keys = SecretStr(",".join(f"{tenant}:{key}" for tenant, key in KEYS.items()))
    changes = {"api_keys": keys, "max_wait_s": 60, **changes}
    pictures: JSON = {"accepts": MediaKind.IMAGE, "returns": ResultKind.ITEMS, "params_schema": PARAMS}
    with front_door(settings, **changes) as door, ThreadPoolExecutor(32) as pool:
        door.announce(*(card(name, **pictures) for name in (MODEL, OTHER)))
        door.core.catalogue.announce_worker(worker_row(models=[f"{MODEL}/1", f"{OTHER}/1"]))
        yield Played(door, pool)


@pytest.fixture
def played(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    """Where requests wait for each other as long as they may."""
    monkeypatch.setattr("api.inference.predictions._STORED_WITHIN_S", 50)
    with played_on(settings) as running:
        yield running


def test_each_gets_its_own_answer_of_a_shared_job_and_its_share_of_the_time(played: Played) -> None:
    asked, shared = played.crowd("one", "two", "three", "four", "five")
    (last,) = (job for job in played.waiting(2) if job.id != shared.id)
    played.finish(shared, listed(saw(shared), texts={"count": 1}), infer_s=0.2)
    played.finish(last, {"saw": words(last)[0]})
    for word in words(shared):
        told = answer(asked[word])
        # What is true of all of them is in each one's answer, as it is of one alone.
        assert told["result"] == {"saw": word, "texts": {"count": 1}}
        assert told["metadata"]["inference_time_ms"] == 50
        assert asked[word].result().headers["fleet-job-id"] == str(shared.id)
    (alone,) = words(last)
    assert answer(asked[alone])["result"] == {"saw": alone}
    figures = played.door.http.get("/metrics").text.splitlines()
    # With the two before them.
    assert f'fleet_http_joined_requests_count{{kind="pictures"}} {AT_ONCE + 2:.1f}' in figures
    assert f'fleet_http_joined_requests_sum{{kind="pictures"}} {AT_ONCE + FIRST + 1:.1f}' in figures


def test_what_is_wrong_with_a_picture_is_told_to_its_own_request(played: Played) -> None:
    asked, shared = played.crowd("one", "two", "three", "four", "five")
    items, third = saw(shared), words(shared)[2]
    items[2] = {
        "index": 2,
        "name": "",
        "error": {"code": "not-a-picture", "detail": "#/inputs/0 is text", "found": "x"},
    }
    played.finish(shared, listed(items))
    refused = asked[third].result()
    assert (refused.status_code, refused.json()) == (
        422,
        {"detail": "#/image_base64 is text", "code": "VALIDATION_ERROR"},
    )
    for word in words(shared):
        assert word == third or answer(asked[word])["result"] == {"saw": word}
    played.finish(played.waiting(1)[0], {"saw": "the last"})


def test_a_long_list_of_answers_is_read_from_the_store_and_the_next_job_is_smaller(played: Played) -> None:
    asked, shared = played.crowd("one", "two", "three", "four", "five")
    lines = b"".join(orjson.dumps(item) + b"\n" for item in saw(shared))
    result = {"count": FIRST, "succeeded": FIRST, "failed": 0, "artifact": ITEMS_NAME}
    played.finish(shared, result, played.stored(shared, ITEMS_NAME, lines))
    for word in words(shared):
        assert answer(asked[word])["result"] == {"saw": word}
    (last,) = played.waiting(1)
    more = [played.ask(word) for word in ("six", "seven", "eight", "nine")]
    # One goes beside it, and two of three share a job that is full.
    jobs = played.waiting(3)
    assert sorted(len(job.inputs) for job in jobs) == [1, 1, 2]
    for job in jobs:
        played.finish(job, listed(saw(job)) if len(job.inputs) > 1 else saw(job)[0]["result"])
    (left,) = played.waiting(1)
    played.finish(left, saw(left)[0]["result"])
    assert last.id in {job.id for job in jobs}
    assert [answer(each)["result"]["saw"] for each in more] == ["six", "seven", "eight", "nine"]


@pytest.mark.parametrize("name", ["embeddings.npy", ITEMS_NAME])
def test_answers_that_are_files_where_they_are_many_or_long_are_made_once_more_alone(played: Played, name: str) -> None:
    asked, shared = played.crowd("one", "two", "three", "four", "five")
    long = b"".join(orjson.dumps(item) + b"\n" for item in saw(shared, boxes="x" * MAX_INLINE_BYTES))
    result = {"count": FIRST, "succeeded": FIRST, "failed": 0, "artifact": name}
    played.finish(shared, result, played.stored(shared, name, long))
    for job in played.waiting(FIRST + 1):
        played.finish(job, saw(job)[0]["result"])
    assert [answer(each)["result"]["saw"] for each in asked.values()] == list(asked)


@pytest.mark.parametrize(
    "error",
    [
        ModelError("not finite", code="result-not-finite"),
        InputError("all of them are too much", code="not-enough-memory"),
        FleetError("the worker was lost in 3 attempts", code="poisoned"),
        RunStopped("the run took longer than its execution timeout", code="execution-timeout"),
    ],
)
def test_what_may_be_one_picture_s_fault_is_found_out_by_running_each_alone(played: Played, error: FleetError) -> None:
    asked, shared = played.crowd("one", "two", "three", "four", "five")
    played.end(shared, error)
    jobs = played.waiting(FIRST + 1)
    assert [len(job.inputs) for job in jobs] == [1] * (FIRST + 1)
    bad = words(shared)[1]
    for job in jobs:
        if words(job) == [bad]:
            played.end(job, error)
        else:
            played.finish(job, saw(job)[0]["result"])
    assert asked.pop(bad).result().status_code >= 422
    assert {answer(each)["result"]["saw"] for each in asked.values()} == set(asked)


def test_what_ends_the_job_on_purpose_is_told_to_each(played: Played) -> None:
    asked, shared = played.crowd("one", "two", "three", "four", "five")
    played.end(shared, RunStopped("its deadline has passed", code="expired"))
    (last,) = played.waiting(1)
    played.finish(last, saw(last)[0]["result"])
    for word in words(shared):
        told = asked[word].result()
        assert (told.status_code, told.json()["code"]) == (504, "TIMEOUT")
        assert str(shared.id) in told.json()["detail"]


def test_only_requests_that_are_equal_but_for_their_picture_share_a_job(played: Played) -> None:
    others: list[JSON] = [
        {"model_id": OTHER},
        {"config": {"top_k": 1}},
        {"config": {"top_k": 2}},
        {"prompt": "what is it?"},
        {"config": {"prompt": "what is it?"}},
    ]
    asked = [played.ask(word) for word in ("one", "two")]
    played.waiting(2)
    asked.append(played.ask("three"))
    asked += [played.ask(f"other {number}", **body) for number, body in enumerate(others)]
    played.ask("of bob", tenant="bob")
    # None of the others has to wait, nor goes with the one that has to.
    jobs = played.waiting(2 + len(others))
    (of_bob,) = played.waiting(1, "bob")
    assert all(len(job.inputs) == 1 and words(job) != ["three"] for job in [*jobs, of_bob])
    for job in [*jobs, of_bob]:
        played.finish(job, saw(job)[0]["result"])
    (third,) = played.waiting(1)
    played.finish(third, saw(third)[0]["result"])
    assert [answer(each)["result"]["saw"] for each in asked[:3]] == ["one", "two", "three"]


@pytest.mark.parametrize("body", [{"config": {"preview": True}}, {"images": ["b25l", "dHdv"], "image_base64": None}])
def test_what_makes_files_or_lists_waits_for_nobody(played: Played, body: JSON) -> None:
    asked = [played.ask("one", **body) for _ in range(6)]
    for job in played.waiting(6):
        played.finish(job, {"saw": "it"})
    assert [answer(each)["result"] for each in asked] == [{"saw": "it"}] * 6


def test_pictures_that_take_long_wait_for_nobody(played: Played) -> None:
    slow = played.ask("slow")
    (job,) = played.waiting(1)
    played.finish(job, {"saw": "slow"}, infer_s=2.0)
    asked = [slow, *(played.ask(f"slow {number}") for number in range(6))]
    for job in played.waiting(6):
        played.finish(job, {"saw": "slow"}, infer_s=2.0)
    assert [answer(each)["result"]["saw"] for each in asked] == ["slow"] * 7


def test_nobody_waits_while_there_are_workers_enough(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.inference.predictions._STORED_WITHIN_S", 50)
    with played_on(settings) as played:
        played.door.core.catalogue.announce_worker(worker_row("w2", models=[f"{MODEL}/1"]))
        played.door.core.catalogue.announce_worker(worker_row("w3"))
        asked = [played.ask(str(number)) for number in range(2 * AT_ONCE)]
        for job in played.waiting(2 * AT_ONCE):
            played.finish(job, saw(job)[0]["result"])
        assert [answer(each)["result"]["saw"] for each in asked] == ["0", "1", "2", "3"]


def test_who_hangs_up_loses_the_answer_alone(played: Played) -> None:
    for number in range(AT_ONCE):
        played.ask(f"before {number}")
    before = played.waiting(AT_ONCE)
    body = {"model_id": MODEL, "image_base64": base64.b64encode(b"leaver").decode()}
    leaver = http.client.HTTPConnection(played.door.url.removeprefix("http://"))
    headers = {"authorization": f"Bearer {KEYS['alice']}", "content-type": "application/json"}
    leaver.request("POST", "/inference", orjson.dumps(body), headers)
    asked = {word: played.ask(word) for word in ("one", "two", "three", "four")}
    shared = played.waiting(AT_ONCE + 1)[-1]
    leaver.close()
    for job in before:
        played.finish(job, saw(job)[0]["result"])
    (last,) = (job for job in played.waiting(2) if job.id != shared.id)
    assert {*words(shared), *words(last)} == {"leaver", *asked}
    played.finish(shared, listed(saw(shared)))
    played.finish(last, saw(last)[0]["result"])
    assert {answer(each)["result"]["saw"] for each in asked.values()} == set(asked)


def test_whoever_is_not_answered_in_time_has_a_job_that_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing ends that his request could have waited for."""
    monkeypatch.setattr("api.inference.predictions._STORED_WITHIN_S", 0.02)
    with played_on(settings, max_wait_s=1) as played:
        asked = [played.ask(str(number)) for number in range(AT_ONCE + 3)]
        told = [each.result() for each in asked]
        assert [(each.status_code, each.json()["code"]) for each in told] == [(504, "TIMEOUT")] * len(asked)
        jobs = played.door.core.jobs.page("alice", JobFilter(), limit=100)
        assert sorted(word for job in jobs for word in words(job)) == [str(number) for number in range(len(asked))]
        assert {job.state for job in jobs} == {JobState.QUEUED}
        assert all(any(str(job.id) in each.json()["detail"] for job in jobs) for each in told)


def test_what_is_no_base64_spoils_nobody_s_job(played: Played) -> None:
    for number in range(AT_ONCE):
        played.ask(f"before {number}")
    before = played.waiting(AT_ONCE)
    refused = [played.ask("", image_base64=text).result() for text in ("not base64!", "", "data:image/png,plain")]
    assert [each.status_code for each in refused] == [422] * 3
    assert [each.json()["detail"].partition(" ")[0] for each in refused] == ["#/image_base64"] * 3
    for job in before:
        played.finish(job, saw(job)[0]["result"])
    assert played.waiting(0) == []
