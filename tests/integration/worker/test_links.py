"""Pictures that a worker fetches from other people's servers."""

import hashlib
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from fleet.addresses import Reach
from fleet.contracts import InlineInput, JobInput, LinkInput
from fleet.errors import FleetError, InputTooLarge, NoCapableWorker, RunStopped
from fleet.outward import Outward
from tests.support.file_server import Site
from worker import incoming_room, links
from worker.incoming_room import STEP_BYTES, Hold
from worker.links import Fetched, Links

PICTURE = b"\x89PNG" + bytes(5000)
Fetch = Callable[..., dict[int, Fetched]]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site({"/cat.png": PICTURE, "/a b.png": PICTURE, "/large.png": bytes(100_001)})
    yield site
    site.close()


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    made = Links(Outward(Reach([ip_network("127.0.0.1/32")])), max_bytes=100_000)

    def call(*urls: str, check: Callable[[], None] = lambda: None, hold: Hold = lambda _: None) -> dict[int, Fetched]:
        return made.fetched([JobInput(link=LinkInput(url=url)) for url in urls], tmp_path, check, hold)

    return call


def refusal(fetch: Fetch, url: str) -> FleetError:
    with pytest.raises(FleetError) as caught:
        fetch(url)
    assert not caught.value.retryable
    assert "secret" not in caught.value.message
    return caught.value


def test_a_picture_is_fetched_and_known_by_its_digest(fetch: Fetch, site: Site) -> None:
    source, known = fetch(f"{site.url}/cat.png?size=1")[0]
    assert source.path.read_bytes() == PICTURE
    assert (source.name, source.fault) == ("cat.png", None)
    assert known.link is not None
    assert (known.link.size, known.link.sha256) == (len(PICTURE), hashlib.sha256(PICTURE).hexdigest())
    assert site.seen[0].headers["accept-encoding"] == "identity"


def test_a_redirect_is_followed(fetch: Fetch, site: Site) -> None:
    site.redirect("/moved", "/cat.png")
    assert fetch(f"{site.url}/moved")[0][0].path.read_bytes() == PICTURE


@pytest.mark.parametrize("target", ["http://127.0.0.2/cat.png", "http://169.254.169.254/", "https://[::1]/x"])
def test_a_redirect_that_leads_inside_is_refused(fetch: Fetch, site: Site, target: str) -> None:
    site.redirect("/moved", target)
    assert refusal(fetch, f"{site.url}/moved").code == "address-refused"


def test_a_redirect_to_a_file_is_refused(fetch: Fetch, site: Site) -> None:
    site.redirect("/moved", "file:///etc/passwd")
    assert refusal(fetch, f"{site.url}/moved").code == "url-refused"


@pytest.mark.parametrize("target", ["https://[bad", "//[::1", "", "https://a\\b/", "https://user:word@example.org/"])
def test_a_redirect_to_what_is_no_url_is_refused(fetch: Fetch, site: Site, target: str) -> None:
    site.redirect("/moved", target)
    assert refusal(fetch, f"{site.url}/moved").code == "url-refused"


def test_redirects_in_a_circle_end(fetch: Fetch, site: Site) -> None:
    site.redirect("/moved", "/moved")
    assert refusal(fetch, f"{site.url}/moved").code == "url-refused"
    assert len(site.seen) == 6


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_answer_without_a_picture_is_told(fetch: Fetch, site: Site, status: int) -> None:
    site.answers["/secret"] = (status, {}, b"no")
    error = refusal(fetch, f"{site.url}/secret")
    assert (error.code, error.facts["status"]) == ("url-not-served", status)


def test_more_bytes_than_allowed_are_not_taken(fetch: Fetch, site: Site) -> None:
    assert refusal(fetch, f"{site.url}/large.png").code == "too-many-bytes"


def test_a_broken_connection_is_tried_once_more(fetch: Fetch, site: Site) -> None:
    site.breaks = [("/cat.png", 1000)]
    assert fetch(f"{site.url}/cat.png")[0][0].path.read_bytes() == PICTURE
    site.breaks = [("/cat.png", 1000)] * 2
    error = refusal(fetch, f"{site.url}/cat.png")
    assert (error.code, error.facts["reason"]) == ("url-unreachable", "no-connection")


def test_a_server_that_takes_too_long_is_given_up(fetch: Fetch, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_WITHIN_S", -1.0)
    error = refusal(fetch, f"{site.url}/cat.png")
    assert (error.code, error.facts["reason"]) == ("url-unreachable", "timed-out")


def test_one_of_many_fails_alone(fetch: Fetch, site: Site) -> None:
    found = fetch(f"{site.url}/cat.png", f"{site.url}/none.png", "https://10.0.0.1/x", f"{site.url}/a%20b.png")
    assert [found[number][0].fault.code if found[number][0].fault else None for number in range(4)] == [
        None,
        "url-not-served",
        "address-refused",
        None,
    ]
    assert found[3][0].name == "a b.png"


def test_a_job_fetches_no_more_than_a_worker_can_hold(fetch: Fetch, site: Site, tmp_path: Path) -> None:
    site.files["/whole.png"] = bytes(100_000)
    found = fetch(*[f"{site.url}/whole.png"] * 20)
    faults = [source.fault.code for source, _ in found.values() if source.fault is not None]
    assert faults == ["too-many-bytes"] * 4
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 1_600_000


def test_other_inputs_are_left_to_others(tmp_path: Path) -> None:
    inputs = [JobInput(inline=InlineInput(data="YQ=="))]
    assert Links(Outward(Reach([])), 10).fetched(inputs, tmp_path, lambda: None, lambda _: None) == {}


def test_a_stopped_run_stops_fetching(fetch: Fetch, site: Site) -> None:
    def stopped() -> None:
        raise RunStopped("cancelled", code="cancelled")

    with pytest.raises(RunStopped):
        fetch(*[f"{site.url}/cat.png"] * 20, check=stopped)
    assert site.seen == []


def test_room_is_asked_for_before_a_file_is_written(fetch: Fetch, site: Site, tmp_path: Path) -> None:
    held: list[tuple[int, int]] = []

    def hold(count: int) -> None:
        held.append((count, sum(path.stat().st_size for path in tmp_path.iterdir())))

    fetch(f"{site.url}/cat.png", hold=hold)
    assert held == [(len(PICTURE), 0)]


def test_a_size_that_nobody_announces_is_asked_for_in_steps_and_given_back(fetch: Fetch, site: Site) -> None:
    held: list[int] = []
    site.answers["/cat.png"] = (200, {"Content-Length": "unknown", "Connection": "close"}, PICTURE)
    assert fetch(f"{site.url}/cat.png", hold=held.append)[0][0].path.read_bytes() == PICTURE
    assert (len(PICTURE) < held[0] <= STEP_BYTES + len(PICTURE), held[-1]) == (True, len(PICTURE))


def test_what_has_no_room_is_the_fault_of_one_url_and_leaves_none_behind(
    fetch: Fetch, site: Site, tmp_path: Path
) -> None:
    held = 0

    def hold(count: int) -> None:
        nonlocal held
        if count > 2 * len(PICTURE):
            raise InputTooLarge("it does not fit", code="not-enough-memory")
        held = count

    found = fetch(*[f"{site.url}/cat.png"] * 3, f"{site.url}/none.png", hold=hold)
    faults = sorted(source.fault.code for source, _ in found.values() if source.fault is not None)
    assert faults == ["not-enough-memory", "url-not-served"]
    assert held == sum(path.stat().st_size for path in tmp_path.iterdir()) == 2 * len(PICTURE)


def test_what_had_to_wait_for_room_is_asked_for_anew(fetch: Fetch, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_room, "_LONG_S", 0.0)
    assert fetch(f"{site.url}/cat.png")[0][0].path.read_bytes() == PICTURE
    assert len(site.seen) == 2


def test_a_run_that_is_handed_back_while_it_waits_for_room_ends(fetch: Fetch, site: Site) -> None:
    def hold(count: int) -> None:
        raise NoCapableWorker("others hold it", code="memory-shared-out")

    with pytest.raises(NoCapableWorker):
        fetch(*[f"{site.url}/cat.png"] * 20, hold=hold)
