"""Files from other people's servers: through the guarded way out, resumed where a connection broke, and checked.

Every hop of a redirect is judged anew. A token goes to the one server it is for, and to nobody that this one names.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from fleet.errors import DependencyError, FleetError, InputTooLarge, ModelError, NoAnswer
from fleet.outward import Incoming, Outward
from fleet.partial import Known, Partial

_MAX_HOPS = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PATIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
#: In a row, without a byte between them.
_TRIES = 5
_PAUSE_S, _MAX_PAUSE_S = 0.5, 60.0
_STALL_S = 30.0
#: Of one connection; a file that takes longer goes on with the next one.
_WITHIN_S = 3600.0
#: Of all of them together: nobody keeps a worker busy for days by sending a byte now and then.
_WHOLE_S = 12 * 3600.0
_DOCUMENT_BYTES = 32 * 1024**2


@dataclass(frozen=True)
class Asked:
    """What to get. `secret` is sent as a bearer token, to the URL's own server alone."""

    url: str
    accept: str = "*/*"
    secret: str = field(default="", repr=False)
    #: The operator named this server: it may be in a private network, and without TLS.
    own: bool = False

    @property
    def origin(self) -> tuple[str, str]:
        parts = urlsplit(self.url)
        return parts.scheme, parts.netloc.lower()

    @property
    def shown(self) -> str:
        """The server, for people: paths and queries may hold secrets."""
        return urlsplit(self.url).hostname or "the server"


@dataclass(frozen=True)
class Document:
    """A small answer, read whole."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        """Raises ModelError `source-unreadable`."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"{urlsplit(self.url).hostname} answered with something that is no JSON: is it the right server?",
                code="source-unreadable",
            ) from error


@dataclass(frozen=True)
class Watch:
    """How whoever waits takes part: `tell` hears of bytes done and their total, `check` ends it by raising."""

    tell: Callable[[int, int | None], object] = lambda done, total: None
    check: Callable[[], object] = lambda: None

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.2))


class Downloads:
    """Thread-safe. `inward` goes to servers that the operator named, `outward` to all others."""

    def __init__(self, outward: Outward, inward: Outward, *, max_bytes: int, pause_s: float = _PAUSE_S) -> None:
        self._outward = outward
        self._inward = inward
        self.max_bytes = max_bytes
        self._pause_s = pause_s

    def document(self, asked: Asked, watch: Watch, max_bytes: int = _DOCUMENT_BYTES) -> Document:
        """Raises ModelError `source-not-found`, `source-unauthorized`, `source-refused`, `source-too-large`;
        UrlRefused; and DependencyError `source-unavailable` after some tries."""
        tries = _Tries(self._pause_s)
        while True:
            watch.check()
            try:
                with self._answer(asked, {}) as (answer, url):
                    body = b"".join(_bounded(answer, max_bytes, asked.shown))
                    return Document(url, answer.headers, body)
            except (_Later, NoAnswer) as fault:
                tries.after(fault, asked, watch)

    def file(self, asked: Asked, path: Path, watch: Watch, known: Known | None = None) -> Known:
        """Writes what is at the URL to `path`, by way of `path`.part, which a later call goes on with.

        Returns its size and SHA-256. Raises what `document` raises, and IntegrityError `checksum-mismatch`.
        """
        known = known or Known()
        part = Partial(path.with_name(f"{path.name}.part"), asked.url)
        tries, until = _Tries(self._pause_s), time.monotonic() + _WHOLE_S
        while True:
            watch.check()
            before = part.size
            try:
                self._go_on(asked, part, watch, known)
                break
            except (_Later, NoAnswer) as fault:
                # What moves on is not given up: the tries count from the last byte.
                if part.size > before and time.monotonic() < until:
                    tries = _Tries(self._pause_s)
                tries.after(fault, asked, watch)
        return part.finished(path, known, asked.shown)

    def _go_on(self, asked: Asked, part: Partial, watch: Watch, known: Known) -> None:
        if known.size is not None and part.size == known.size:
            return
        with self._answer(asked, part.conditions(known)) as (answer, _):
            begin = _begin_of(answer) if answer.status == 206 else 0
            if begin != part.size:
                part.restart()
            if answer.status == 416 or begin not in (0, part.size):
                raise _Later("the server does not go on where the download broke off")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ModelError(f"{asked.shown} sends the file in an encoding of its own", code="source-unreadable")
            part.note(answer.headers)
            length = answer.headers.get("content-length", "")
            total = begin + int(length) if length.isdecimal() else known.size
            limit = min(self.max_bytes, known.size if known.size is not None else self.max_bytes)
            if total is not None and total > limit:
                raise _too_large(asked.shown, total, limit)
            with part.path.open("ab") as file:
                for piece in _bounded(answer, limit - begin, asked.shown):
                    file.write(piece)
                    watch.check()
                    watch.tell(file.tell(), total)

    @contextmanager
    def _answer(self, asked: Asked, more: Mapping[str, str]) -> Iterator[tuple[Incoming, str]]:
        """The answer at the end of all redirects, if it is one to read: 200, 206 or 416."""
        with ExitStack() as held:
            hop = asked
            for _ in range(_MAX_HOPS):
                secret = {"Authorization": f"Bearer {hop.secret}"} if hop.secret else {}
                headers = {"Accept": hop.accept, "Accept-Encoding": "identity", "User-Agent": "fleet", **more, **secret}
                way = self._inward if hop.own else self._outward
                answer = held.enter_context(
                    way.opened(hop.url, headers=headers, within_s=_WITHIN_S, stall_s=_STALL_S),
                )
                if answer.status not in _REDIRECTS:
                    break
                hop = _redirected(hop, answer)
                held.close()
            else:
                raise ModelError(f"{asked.shown} redirects more than {_MAX_HOPS} times", code="source-refused")
            _judge(answer, hop)
            yield answer, hop.url


class _Later(Exception):
    """The server says that it cannot answer now."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class _Tries:
    """How often something went wrong in a row."""

    def __init__(self, pause_s: float) -> None:
        self._left = _TRIES - 1
        self._pause_s = pause_s

    def after(self, fault: _Later | NoAnswer, asked: Asked, watch: Watch) -> None:
        """Waits before the next try. Raises DependencyError `source-unavailable` when there is none."""
        if self._left == 0:
            raise DependencyError(
                f"{asked.shown} does not send it: {fault}; try again later", code="source-unavailable"
            ) from fault
        self._left -= 1
        asked_for = fault.after_s if isinstance(fault, _Later) else None
        watch.sleep(min(self._pause_s if asked_for is None else asked_for, _MAX_PAUSE_S))
        self._pause_s *= 2


def _redirected(hop: Asked, answer: Incoming) -> Asked:
    location = answer.headers.get("location", "")
    if not location:
        raise ModelError(f"{hop.shown} redirects to nowhere", code="source-refused")
    following = replace(hop, url=urljoin(hop.url, location).partition("#")[0])
    if following.origin == hop.origin:
        return following
    return replace(following, secret="", own=False)


def _judge(answer: Incoming, hop: Asked) -> None:
    status, where = answer.status, hop.shown
    if status in (200, 206, 416):
        return
    if status in _PATIENT:
        raise _Later(f"it answers {status}", _retry_after_s(answer.headers.get("retry-after", "")))
    code, advice = "source-refused", "see what it expects"
    if status in (401, 403):
        code, advice = "source-unauthorized", "the token is missing, wrong, or not for this; or it does not exist"
    elif status in (404, 410):
        code, advice = "source-not-found", "check names, revision and path; what is private needs a token"
    raise ModelError(f"{where} answers {status}: {advice}", code=code, status=status)


def _retry_after_s(told: str) -> float | None:
    if told.isdecimal():
        return float(told)
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    return None


def _begin_of(answer: Incoming) -> int:
    """Where a part begins in the whole; -1 when it does not say so."""
    told = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return int(told) if told.isdecimal() else -1


def _bounded(answer: Incoming, max_bytes: int, server: str) -> Iterator[bytes]:
    left = max_bytes
    for piece in answer.pieces():
        left -= len(piece)
        if left < 0:
            raise _too_large(server, None, max_bytes)
        yield piece


def _too_large(server: str, size: int | None, limit: int) -> FleetError:
    told = "more" if size is None else f"{size:,} bytes"
    return InputTooLarge(
        f"{server} sends {told}, and {limit:,} bytes are allowed: see MODEL_MAX_BYTES",
        code="source-too-large",
        limit=limit,
    )
