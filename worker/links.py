"""Pictures that a request names by URL: fetched by the worker that runs the job, through the guarded way out.

Every hop of a redirect is judged anew. What does not come is the fault of that input alone, not of the job's others.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from fleet.contracts import JobInput, LinkInput
from fleet.errors import InputError, InputTooLarge, NoAnswer, UrlRefused
from fleet.outward import Incoming, Outward
from worker.contract import Source
from worker.incoming_room import STEP_BYTES, Hold, IncomingRoom

_MAX_HOPS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Of a whole fetch, redirects included; and without a byte.
_WITHIN_S, _STALL_S = 20.0, 10.0
#: These may be gone a moment later, and cost nothing to try again.
_PASSING = frozenset({"no-connection", "name-not-resolved"})
_TRIES, _PAUSE_S = 2, 0.5
_AT_ONCE = 8
#: A job may fetch as many bytes as so many pictures of the largest size have.
_LARGEST = 16
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "fleet"}
Fetched = tuple[Source, JobInput]


class Links:
    """Thread-safe. `max_bytes`: of one picture's file."""

    def __init__(self, outward: Outward, max_bytes: int) -> None:
        self._outward = outward
        self._max_bytes = max_bytes

    def fetched(
        self, inputs: Sequence[JobInput], folder: Path, check: Callable[[], None], hold: Hold
    ) -> dict[int, Fetched]:
        """Those of the job's inputs that are URLs, by their number, several at a time.

        hold: asks for the room that all of them take. Raises RunStopped as `check`, as `hold`, and what is wrong with
        the only input: UrlRefused, InputTooLarge `too-many-bytes`, InputError `url-unreachable` or `url-not-served`.
        """
        links = [(number, item.link) for number, item in enumerate(inputs) if item.link is not None]
        if not links:
            return {}
        haul = _Haul(_Left(_LARGEST * self._max_bytes), IncomingRoom(hold), check)
        if len(inputs) == 1:
            return {0: self._one(links[0][1], folder / "input-0", haul)}

        def caught(one: tuple[int, LinkInput]) -> Fetched:
            number, link = one
            path = folder / f"input-{number}"
            try:
                return self._one(link, path, haul)
            except InputError as error:
                path.unlink(missing_ok=True)
                haul.room.settle(path, 0)
                return Source(path, link.name or "", "", fault=error), JobInput(link=link)

        with ThreadPoolExecutor(min(len(links), _AT_ONCE), "fetching") as pool:
            try:
                got = list(pool.map(caught, links))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        haul.room.settled()
        return {number: one for (number, _), one in zip(links, got, strict=True)}

    def _one(self, link: LinkInput, path: Path, haul: "_Haul") -> Fetched:
        tries, until = _TRIES, time.monotonic() + _WITHIN_S
        while True:
            haul.check()
            tries -= 1
            try:
                size, digest, media_type = self._download(link.url, path, until, haul)
                break
            except _Late:
                # There is room now: this ends.
                tries, until = tries + 1, time.monotonic() + _WITHIN_S
                continue
            except NoAnswer as error:
                if not tries or error.code not in _PASSING or time.monotonic() + _PAUSE_S > until:
                    raise InputError(
                        f"{_server(link.url)} did not send the picture: {error.message}",
                        code="url-unreachable",
                        reason=error.code,
                    ) from error
            time.sleep(_PAUSE_S)
        haul.left.take(size)
        haul.room.settle(path, size)
        known = link.model_copy(update={"size": size, "sha256": digest})
        return Source(path, link.name or _name_in(link.url), media_type), JobInput(link=known)

    def _download(self, url: str, path: Path, until: float, haul: "_Haul") -> tuple[int, str, str]:
        """(bytes, SHA-256, media type as told). Raises NoAnswer and _Late besides what `fetched` does."""
        for _ in range(_MAX_HOPS + 1):
            within_s = until - time.monotonic()
            if within_s <= 0:
                raise NoAnswer(f"it took longer than {_WITHIN_S:.0f} s", code="timed-out")
            with self._outward.opened(url, headers=_HEADERS, within_s=within_s, stall_s=_STALL_S) as answer:
                if answer.status in _REDIRECTS:
                    url = _redirected(url, answer)
                    continue
                if answer.status != 200:
                    raise InputError(
                        f"{_server(url)} answers {answer.status} instead of a picture",
                        code="url-not-served",
                        status=answer.status,
                    )
                size, digest = self._written(answer, path, url, haul)
                return size, digest, answer.headers.get("content-type", "").partition(";")[0].strip()
        raise UrlRefused(f"{_server(url)} redirects more than {_MAX_HOPS} times")

    def _written(self, answer: Incoming, path: Path, url: str, haul: "_Haul") -> tuple[int, str]:
        size, hasher = 0, hashlib.sha256()
        told = answer.headers.get("content-length", "")
        room = int(told[:20]) if told.isdecimal() else 0
        if room > self._max_bytes:
            raise self._too_large(url)
        haul.take(path, room)
        with path.open("wb") as file:
            for piece in answer.pieces():
                haul.check()
                size += len(piece)
                if size > self._max_bytes:
                    raise self._too_large(url)
                if size > room:
                    room = min(size + STEP_BYTES, self._max_bytes)
                    haul.take(path, room)
                file.write(piece)
                hasher.update(piece)
        return size, hasher.hexdigest()

    def _too_large(self, url: str) -> InputTooLarge:
        return InputTooLarge(
            f"{_server(url)} sends more than {self._max_bytes:,} bytes, the limit of a picture's file (IMAGE_MAX_SIZE)",
            code="too-many-bytes",
            limit=self._max_bytes,
        )


class _Left:
    """Bytes that a job may still fetch. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Of a file that has come. Raises InputTooLarge `too-many-bytes`."""
        with self._lock:
            if size <= self._count:
                self._count -= size
                return
        raise InputTooLarge(
            "the job's URLs lead to more bytes than one job may fetch: send several jobs, or upload a zip",
            code="too-many-bytes",
        )


class _Late(Exception):
    """The run has waited for memory, and the server may have given up meanwhile."""


@dataclass(frozen=True)
class _Haul:
    """What the fetches of a job share."""

    left: _Left
    room: IncomingRoom
    #: Ends the run by raising.
    check: Callable[[], None]

    def take(self, path: Path, size: int) -> None:
        """Raises _Late, and as `IncomingRoom.take`."""
        if not self.room.take(path, size):
            raise _Late


def _redirected(url: str, answer: Incoming) -> str:
    location = answer.headers.get("location", "")
    if not location:
        raise UrlRefused(f"{_server(url)} redirects to nowhere")
    try:
        return urljoin(url, location).partition("#")[0]
    except ValueError as error:
        raise UrlRefused(f"{_server(url)} redirects to what is no URL") from error


def _server(url: str) -> str:
    """For messages: paths and queries may hold secrets."""
    return urlsplit(url).hostname or "the server"


def _name_in(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])[:255]
