"""Downloads: resumed, bounded, checked, and never with a token for the wrong server."""

import hashlib
import os
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from fleet.addresses import Reach
from fleet.download import Asked, Downloads, Watch
from fleet.errors import DependencyError, InputTooLarge, IntegrityError, ModelError, RunStopped, UrlRefused
from fleet.outward import Outward
from fleet.partial import Known
from tests.support.file_server import Site

LOOPBACK = Reach([ip_network("127.0.0.0/8")])
CONTENT = os.urandom(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def downloads(*, max_bytes: int = 1 << 30, outward: Reach = LOOPBACK) -> Downloads:
    return Downloads(Outward(outward), Outward(LOOPBACK, allow_http=True), max_bytes=max_bytes, pause_s=0.01)


@pytest.fixture
def server() -> Iterator[Site]:
    running = Site({"/file": CONTENT})
    yield running
    running.close()


@pytest.fixture
def other() -> Iterator[Site]:
    running = Site({"/file": CONTENT})
    yield running
    running.close()


def test_a_file_comes_with_its_size_and_digest(server: Site, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    came = downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch(lambda *at: told.append(at)))
    assert came == Known(DIGEST, len(CONTENT))
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_connection_that_breaks_is_gone_on_with_where_it_broke(server: Site, tmp_path: Path) -> None:
    server.breaks += [("/file", 1_000_000), ("/file", 500_000)]
    came = downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch())
    assert came.sha256 == DIGEST
    ranges = [seen.headers.get("range") for seen in server.asked("/file")]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_goes_on_with_what_an_earlier_one_has_left(server: Site, tmp_path: Path) -> None:
    def enough(done: int, total: int | None) -> None:
        if done >= 1_000_000:
            raise RunStopped("drained", code="drained")

    with pytest.raises(RunStopped):
        downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch(enough))
    assert downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch()).sha256 == DIGEST
    assert "range" in server.asked("/file")[1].headers


def test_a_file_that_changed_meanwhile_begins_anew(server: Site, tmp_path: Path) -> None:
    server.breaks.append(("/file", 1_000_000))

    def changed(done: int, total: int | None) -> None:
        server.files["/file"] = b"another file"

    came = downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch(changed))
    assert (tmp_path / "f").read_bytes() == b"another file"
    assert came.size == len(b"another file")


def test_wrong_bytes_are_refused_and_not_kept(server: Site, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=DIGEST):
        downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch(), Known("0" * 64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "source-unauthorized"), (403, "source-unauthorized"), (404, "source-not-found"), (400, "source-refused")],
)
def test_a_refusal_is_told_at_once(server: Site, tmp_path: Path, status: int, code: str) -> None:
    server.faults.append(("/file", status, {}))
    with pytest.raises(ModelError) as caught:
        downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch())
    assert caught.value.code == code
    assert len(server.seen) == 1


def test_a_busy_server_is_asked_again_when_it_says_so(server: Site, tmp_path: Path) -> None:
    server.faults += [("/file", 429, {"Retry-After": "0"}), ("/file", 503, {})]
    assert downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch()).sha256 == DIGEST


def test_a_server_that_stays_busy_is_given_up(server: Site, tmp_path: Path) -> None:
    server.faults += [("/file", 503, {})] * 9
    with pytest.raises(DependencyError, match="503") as caught:
        downloads().file(Asked(f"{server.url}/file"), tmp_path / "f", Watch())
    assert caught.value.code == "source-unavailable"


def test_more_than_is_allowed_is_not_taken(server: Site, tmp_path: Path) -> None:
    with pytest.raises(InputTooLarge, match="MODEL_MAX_BYTES"):
        downloads(max_bytes=1_000_000).file(Asked(f"{server.url}/file"), tmp_path / "f", Watch())


def test_a_token_goes_to_its_own_server_and_not_where_that_redirects_to(
    server: Site, other: Site, tmp_path: Path
) -> None:
    server.token = "secret"
    server.redirect("/moved", f"{server.url}/away")
    server.redirect("/away", f"{other.url}/file")
    came = downloads().file(Asked(f"{server.url}/moved", secret="secret", own=True), tmp_path / "f", Watch())
    assert came.sha256 == DIGEST
    assert [seen.headers.get("authorization") for seen in server.seen] == ["Bearer secret"] * 2
    assert "authorization" not in other.seen[0].headers


def test_a_redirect_into_a_private_network_is_refused(server: Site, other: Site, tmp_path: Path) -> None:
    server.redirect("/moved", f"{other.url}/file")
    with pytest.raises(UrlRefused):
        downloads(outward=Reach()).file(Asked(f"{server.url}/moved", own=True), tmp_path / "f", Watch())
    assert not other.seen


def test_a_private_address_is_refused_unless_the_operator_named_it(server: Site) -> None:
    guarded = downloads(outward=Reach())
    with pytest.raises(UrlRefused):
        guarded.document(Asked(f"{server.url}/file"), Watch())
    assert guarded.document(Asked(f"{server.url}/file", own=True), Watch()).body == CONTENT


def test_a_server_that_redirects_for_ever_is_left(server: Site) -> None:
    server.redirect("/round", f"{server.url}/round")
    with pytest.raises(ModelError) as caught:
        downloads().document(Asked(f"{server.url}/round"), Watch())
    assert caught.value.code == "source-refused"


def test_what_is_asked_shows_neither_token_nor_path() -> None:
    asked = Asked("https://example.org/path?signature=abc", secret="token")
    assert "token" not in repr(asked)
    assert asked.shown == "example.org"
