"""The front door keeps the word of its OpenAPI document, whatever it is sent: every operation, met with data made from
the document (the edges of each field, random data that fits, random data that does not) and led to things that exist.
"""

import json
import re
import socket
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import SecretStr
from schemathesis import APIOperation, Case, CheckContext, Config, GenerationMode, Response
from schemathesis.config import GenerationConfig
from schemathesis.schemas import BaseSchema

from fleet.contracts import Lane, MediaKind, ResultKind
from tests.support.clone import ROOT
from tests.support.front_door import Door, card, front_door
from tests.support.servers import Servers
from tests.support.targets import KNOWN, Targets, streams

#: From the outline that test_openapi_pin.py keeps equal to the document: making that here would slow collection.
OPERATIONS = json.loads((ROOT / "tests/unit/api/openapi.json").read_text("utf-8"))["operations"]
GUARDED = [label for label, operation in OPERATIONS.items() if operation["guarded"]]
CODES = frozenset(re.findall(r"`([a-z][a-z0-9-]+)`", (ROOT / "docs/reference/errors.md").read_text("utf-8")))
PROBLEM = "application/problem+json"
KEY = "0123456789abcdef-of-a-test"
EVERYTHING = {
    "max_wait_s": 1,
    "webhook_secrets": SecretStr("whsec_" + b64encode(bytes(range(32))).decode()),
    "webhook_allow_http": True,
    "outward_allow_networks": [ip_network("127.0.0.0/8"), ip_network("::1/128")],
}
#: The document says what is well formed, and not all that a model or a job's state asks for.
CHECKS = {"positive_data_acceptance": {"enabled": False}}

#: The front door is in this process, and throws dice of its own while Hypothesis watches whether anybody does.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")
STEADY = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Api:
    schema: BaseSchema
    url: str
    targets: Targets
    session: requests.Session
    headers: dict[str, str]

    def operation(self, label: str) -> APIOperation[Any, Any, Any, Any]:
        found = self.schema.find_operation_by_label(label)
        assert found is not None
        return found

    def send(self, case: Case[Any], headers: dict[str, str] | None = None) -> Response:
        self.targets.aim(case)
        return self.call(case, headers)

    def call(self, case: Case[Any], headers: dict[str, str] | None = None) -> Response:
        return case.call(self.url, self.session, headers or self.headers or None, timeout=60, allow_redirects=False)

    def meet(self, case: Case[Any]) -> int:
        """Sends the request, judges the answer, and returns its status."""
        response = self.send(case)
        self.judge(case, response)
        return int(response.status_code)

    def judge(self, case: Case[Any], response: Response) -> None:
        case.validate_response(
            response,
            headers=self.headers or None,
            additional_checks=[errors_are_problems, events_are_jobs],
            excluded_checks=_beyond(case),
        )


def _beyond(case: Case[Any]) -> list[Any]:
    """Checks that ask of an answer what a schema cannot say."""
    excluded: list[Any] = []
    if streams(case):
        # It cannot tell a stream's whole from its events.
        excluded.append(schemathesis.checks.response_schema_conformance)
    if re.match(r"/api/v1/(models|inference)/[^{]+$", case.operation.path):
        # There `GET` asks for the model of that name, or the job of that id, which is another path of the document.
        excluded += [schemathesis.checks.unsupported_method, schemathesis.checks.allow_header_conformance]
    return excluded


@pytest.fixture(scope="module")
def open_api(servers: Servers) -> Iterator[Api]:
    yield from _api(servers, None)


@pytest.fixture(scope="module")
def guarded_api(servers: Servers) -> Iterator[Api]:
    yield from _api(servers, KEY)


@pytest.fixture(scope="module")
def lonely_api(servers: Servers) -> Iterator[Api]:
    """None of its servers is there."""
    with servers.fresh() as fresh, nowhere() as address, requests.Session() as session:
        gone = {
            "database_url": SecretStr(f"postgresql://fleet@{address}/fleet"),
            "redis_url": SecretStr(f"redis://{address}/0"),
            "minio_endpoint": address,
        }
        session.trust_env = False
        with front_door(fresh, **gone) as door:
            yield Api(_schema(door, {}), door.url, Targets(door, "default", address), session, {})


@contextmanager
def nowhere() -> Iterator[str]:
    """A port that is taken and not listened at: nobody answers there, and nobody else gets it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def _schema(door: Door, checks: dict[str, Any]) -> BaseSchema:
    config = Config.from_dict({"seed": 1, "checks": CHECKS | checks})
    return schemathesis.openapi.from_url(f"{door.url}/openapi.json", config=config)


def _api(servers: Servers, key: str | None) -> Iterator[Api]:
    keys = {"api_keys": SecretStr(f"somebody:{key}")} if key else {}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        servers.fresh(**keys) as fresh,
        front_door(fresh, **EVERYTHING) as door,
        nowhere() as address,
        requests.Session() as session,
    ):
        session.trust_env = False
        door.http.headers.update(headers)
        kinds: dict[str, Any] = {"accepts": MediaKind.VOLUME, "returns": ResultKind.MASK, "lane": Lane.BULK}
        door.announce(card(), card("volume", task="segmentation", **kinds))
        schema = _schema(door, {} if key else {"ignored_auth": {"enabled": False}})
        yield Api(schema, door.url, Targets(door, "somebody" if key else "default", address), session, headers)


def errors_are_problems(_: CheckContext | None, response: Response, case: Case[Any]) -> None:
    """With a documented code, and the request id that finds it in the log."""
    if response.status_code < 400 or case.operation.label == "GET /readyz":
        return
    assert response.headers["content-type"] == [PROBLEM]
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["code"] in CODES, problem
    assert response.headers["x-request-id"] == [problem["request_id"]]
    assert problem["instance"].startswith("/")
    assert "Traceback" not in response.text


def events_are_jobs(_: CheckContext | None, response: Response, case: Case[Any]) -> None:
    """Each has an id, a name and the job; the stream of a job that has ended says so and ends."""
    if not (streams(case) and response.status_code == 200):
        return
    head, *events, rest = response.text.split("\n\n")
    assert (head[:7], rest) == ("retry: ", "")
    fields = [dict(line.split(": ", 1) for line in event.splitlines()) for event in events]
    jobs = [json.loads(field["data"]) for field in fields]
    assert [field["event"] for field in fields] == [f"job.{job['state']}" for job in jobs]
    assert all(field["id"].isdigit() for field in fields)
    assert {job["id"] for job in jobs} == {case.path_parameters["job_id"]}


def generated(
    operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, each: Callable[[Case[Any]], object], count: int
) -> None:
    @settings(STEADY, max_examples=count)
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Case[Any]) -> None:
        each(case)

    try:
        run()
    except Unsatisfiable:
        # Where nothing is read, nothing can be wrong.
        assert mode is GenerationMode.NEGATIVE
        assert not list(operation.iter_parameters())


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_keeps_its_word_at_the_edges(label: str, open_api: Api) -> None:
    operation = open_api.operation(label)
    cases = open_api.schema.iter_coverage_cases(
        operation, generation_modes=list(GenerationMode), generation_config=GenerationConfig()
    )
    assert [open_api.meet(case) for case in cases]


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_keeps_its_word(label: str, open_api: Api) -> None:
    statuses: list[int] = []
    generated(open_api.operation(label), GenerationMode.POSITIVE, lambda case: statuses.append(open_api.meet(case)), 20)
    # Requests that nothing comes of would test little.
    if set(re.findall(r"{(\w+)}", label)) <= KNOWN:
        assert min(statuses) < 400


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_refuses_what_is_not_in_its_word(label: str, open_api: Api) -> None:
    generated(open_api.operation(label), GenerationMode.NEGATIVE, open_api.meet, 15)


def test_calls_that_follow_from_each_other_keep_their_word(open_api: Api) -> None:
    """Ids of answers go into requests, in any order: submit, look, cancel, retry, delete, look again."""
    followed: Counter[str] = Counter()
    # A model's next version has another number each time, and what is drawn would not be the same again.
    jobs = open_api.schema.exclude(path_regex="/models")

    class Following(jobs.as_state_machine()):  # type: ignore[misc]
        def call(self, case: Case[Any], **_: Any) -> Response:
            # The stream of a job that has not ended would not end.
            (open_api.targets.aim if streams(case) else open_api.targets.fit)(case)
            return open_api.call(case)

        def validate_response(self, response: Response, case: Case[Any], *_: Any, **__: Any) -> None:
            followed[f"{case.operation.label} {response.status_code // 100}xx"] += 1
            open_api.judge(case, response)

    Following.run(settings=settings(STEADY, max_examples=50, stateful_step_count=8))
    assert sum(count for name, count in followed.items() if "{" in name and name.endswith("2xx")) > 10, followed


@pytest.mark.parametrize("label", GUARDED)
def test_with_a_key_it_is_the_same(label: str, guarded_api: Api) -> None:
    generated(guarded_api.operation(label), GenerationMode.POSITIVE, guarded_api.meet, 8)


@pytest.mark.parametrize("key", [None, "Bearer nobody's", "Basic Og==", "Bearer", "Bearer \x80"])
@pytest.mark.parametrize("label", GUARDED)
def test_without_a_key_nothing_is_told(label: str, key: str | None, guarded_api: Api) -> None:
    def refused(case: Case[Any]) -> None:
        case.headers.pop("X-API-Key", None)
        case.headers.pop("Authorization", None)
        response = guarded_api.send(case, {"Authorization": key} if key else {"X-Nothing": ""})
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == ['Bearer realm="fleet"']
        errors_are_problems(None, response, case)

    generated(guarded_api.operation(label), GenerationMode.POSITIVE, refused, 2)


@pytest.mark.parametrize("label", OPERATIONS)
def test_without_its_servers_it_says_so_and_does_not_break(label: str, lonely_api: Api) -> None:
    def answered(case: Case[Any]) -> None:
        response = lonely_api.call(case)
        statuses = OPERATIONS[label]["statuses"]
        assert str(response.status_code) in statuses
        if response.status_code == 503 and label in GUARDED:
            assert int(response.headers["retry-after"][0]) >= 1
        errors_are_problems(None, response, case)

    generated(lonely_api.operation(label), GenerationMode.POSITIVE, answered, 3)


def test_no_operation_is_left_out(open_api: Api) -> None:
    paths = open_api.schema.raw_schema["paths"]
    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} == set(OPERATIONS)
