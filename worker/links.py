"""Pictures that a request names by URL: fetched by the worker that runs the job, through the guarded way out.

Every hop of a redirect is judged anew. What does not come is the fault of that input alone, not of the job's others.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from fleet.contracts import JobInput, LinkInput
from fleet.errors import InputError, InputTooLarge, NoAnswer, UrlRefused
from fleet.outward import Incoming, Outward
from worker.contract import Source

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

    def fetched(self, inputs: Sequence[JobInput], folder: Path, check: Callable[[], None]) -> dict[int, Fetched]:
        """Those of the job's inputs that are URLs, by their number, several at a time.

        Raises RunStopped as `check`, and what is wrong with the only input: UrlRefused, InputTooLarge
        `too-many-bytes`, InputError `url-unreachable` or `url-not-served`.
        """
        links = [(number, item.link) for number, item in enumerate(inputs) if item.link is not None]
        if not links:
            return {}
        left = _Left(_LARGEST * self._max_bytes)
        if len(inputs) == 1:
            return {0: self._one(links[0][1], folder / "input-0", left, check)}

        def caught(one: tuple[int, LinkInput]) -> Fetched:
            number, link = one
            path = folder / f"input-{number}"
            try:
                return self._one(link, path, left, check)
            except InputError as error:
                return Source(path, link.name or "", "", fault=error), JobInput(link=link)

        with ThreadPoolExecutor(min(len(links), _AT_ONCE), "fetching") as pool:
            try:
                return {number: got for (number, _), got in zip(links, pool.map(caught, links), strict=True)}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one(self, link: LinkInput, path: Path, left: "_Left", check: Callable[[], None]) -> Fetched:
        tries, until = _TRIES, time.monotonic() + _WITHIN_S
        while True:
            check()
            tries -= 1
            try:
                size, digest, media_type = self._download(link.url, path, until, check)
                break
            except NoAnswer as error:
                if not tries or error.code not in _PASSING or time.monotonic() + _PAUSE_S > until:
                    raise InputError(
                        f"{_server(link.url)} did not send the picture: {error.message}",
                        code="url-unreachable",
                        reason=error.code,
                    ) from error
            time.sleep(_PAUSE_S)
        left.take(size, path)
        known = link.model_copy(update={"size": size, "sha256": digest})
        return Source(path, link.name or _name_in(link.url), media_type), JobInput(link=known)

    def _download(self, url: str, path: Path, until: float, check: Callable[[], None]) -> tuple[int, str, str]:
        """(bytes, SHA-256, media type as told). Raises NoAnswer besides what `fetched` does."""
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
                size, digest = self._written(answer, path, url, check)
                return size, digest, answer.headers.get("content-type", "").partition(";")[0].strip()
        raise UrlRefused(f"{_server(url)} redirects more than {_MAX_HOPS} times")

    def _written(self, answer: Incoming, path: Path, url: str, check: Callable[[], None]) -> tuple[int, str]:
        size, hasher = 0, hashlib.sha256()
        announced = answer.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._max_bytes:
            raise self._too_large(url)
        with path.open("wb") as file:
            for piece in answer.pieces():
                check()
                size += file.write(piece)
                if size > self._max_bytes:
                    raise self._too_large(url)
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

    def take(self, size: int, path: Path) -> None:
        """Of a file that has come. Raises InputTooLarge `too-many-bytes`, and the file is gone then."""
        with self._lock:
            if size <= self._count:
                self._count -= size
                return
        path.unlink()
        raise InputTooLarge(
            "the job's URLs lead to more bytes than one job may fetch: send several jobs, or upload a zip",
            code="too-many-bytes",
        )


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
