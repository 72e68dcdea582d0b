"""The two ways out: `Transport` speaks to the API and carries the key, `Store` to the object store, without it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from fleet_client.errors import FleetError, TransferFailed
from fleet_client.problems import no_answer, problem
from fleet_client.retry import Retries

Body = Callable[[], Iterator[bytes]]
_CONNECT_S = 5.0
_RETRIED_BY_STORES = frozenset({408, 429, 500, 502, 503, 504})
#: `mask.nii.gz` is wanted as it lies there, and not compressed for the journey.
_AS_STORED = {"accept": "*/*", "accept-encoding": "identity"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: A proxy for the outside world knows nothing of this machine's own servers.
_DIRECT: dict[str, httpx.BaseTransport | None] = {
    "all://localhost": None,
    "all://127.0.0.1": None,
    "all://[::1]": None,
}


class Transport:
    """Requests below `{url}/api/v1`, retried. Thread-safe. Paths are relative, so that the key has one destination."""

    def __init__(self, url: str, api_key: str | None, *, timeout_s: float, retries: Retries, agent: str) -> None:
        root = _checked(url)
        headers = {"user-agent": agent, "accept": "application/json"}
        if api_key is not None:
            if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
                raise ValueError("the API key must consist of visible ASCII characters")
            headers["authorization"] = f"Bearer {api_key.strip()}"
        self.retries = retries
        self.timeout_s = timeout_s
        self._root = root.copy_with(raw_path=root.raw_path.rstrip(b"/") + b"/api/v1/")
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s)),
            follow_redirects=False,
            mounts=_DIRECT,
            # Every thread that follows a job holds one, for as long as the job takes: none may be kept waiting.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        )

    def close(self) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Any = None,
        headers: Mapping[str, str] | None = None,
        hold_s: float = 0.0,
        retries: Retries | None = None,
    ) -> httpx.Response:
        """One answer of the API below 300, with its body; everything else is raised, see `errors`.

        `hold_s` is how long the server may take on purpose, in seconds, on top of the timeout.
        """
        return self._send(
            lambda: self._http.build_request(
                method, self._url(path), json=json, params=params, headers=headers, timeout=self._patience(hold_s)
            ),
            retries or self.retries,
        )

    def put(self, path: str, body: Body, size: int, headers: Mapping[str, str]) -> httpx.Response:
        """PUTs `size` bytes through the API; `body` gives them anew for every try."""
        return self._send(
            lambda: self._http.build_request(
                "PUT", self._url(path), content=body(), headers={**headers, "content-length": str(size)}
            ),
            self.retries,
        )

    @contextmanager
    def open(self, path: str) -> Iterator[httpx.Response | str]:
        """The unread answer to a GET, or the URL that the API sends us to. Not retried: the reader begins anew."""
        request = self._http.build_request("GET", self._url(path), headers=_AS_STORED)
        with _streamed(self._http, request) as answer:
            location = answer.headers.get("location")
            if answer.status_code in _REDIRECTS and location:
                yield str(request.url.join(location))
            elif answer.is_success:
                yield answer
            else:
                answer.read()
                raise problem(answer)

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str], silence_s: float) -> Iterator[httpx.Response]:
        """The unread answer to a GET that the server goes on writing. Not retried: the reader knows where to go on.

        Raises Timeout when no byte comes for `silence_s` seconds.
        """
        patience = httpx.Timeout(self.timeout_s, connect=min(_CONNECT_S, self.timeout_s), read=silence_s)
        request = self._http.build_request("GET", self._url(path), headers=headers, timeout=patience)
        with _streamed(self._http, request) as answer:
            if not answer.is_success:
                answer.read()
                raise problem(answer)
            yield answer

    def is_own(self, url: str, path: str) -> bool:
        """Whether `url` is this API's `path`, under whatever host name the server believes to have."""
        parsed = httpx.URL(url)
        return not parsed.query and parsed.path.endswith("/api/v1/" + path)

    def _send(self, build: Callable[[], httpx.Request], retries: Retries) -> httpx.Response:
        def once() -> httpx.Response:
            request = build()
            try:
                answer = self._http.send(request)
            except httpx.HTTPError as error:
                raise no_answer(error, request.url) from error
            if not answer.is_success:
                raise problem(answer)
            return answer

        return retries.run(once)

    def _url(self, path: str) -> httpx.URL:
        return self._root.copy_with(raw_path=self._root.raw_path + path.encode("ascii"))

    def _patience(self, hold_s: float) -> httpx.Timeout:
        return httpx.Timeout(self.timeout_s, connect=min(_CONNECT_S, self.timeout_s), read=self.timeout_s + hold_s)


class Store:
    """Presigned URLs: the signature is in the URL, and no key of ours may ever be added. Thread-safe."""

    def __init__(self, *, timeout_s: float, retries: Retries, agent: str) -> None:
        # A store that is busy joining or copying is slower to answer than the API.
        self._timeout = httpx.Timeout(max(timeout_s, 60.0), connect=_CONNECT_S)
        self._retries = retries
        self._http = httpx.Client(
            headers={"user-agent": agent}, timeout=self._timeout, follow_redirects=False, mounts=_DIRECT
        )

    def close(self) -> None:
        self._http.close()

    def put(self, url: str, body: Body, size: int, headers: Mapping[str, str]) -> httpx.Response:
        """PUTs `size` bytes; `body` gives them anew for every try. Raises TransferFailed."""

        def once() -> httpx.Response:
            request = self._http.build_request(
                "PUT", url, content=body(), headers={**headers, "content-length": str(size)}
            )
            try:
                answer = self._http.send(request)
            except httpx.HTTPError as error:
                raise no_answer(error, request.url) from error
            if not answer.is_success:
                raise _refused(answer, "upload")
            return answer

        return self._retries.run(once)

    @contextmanager
    def open(self, url: str) -> Iterator[httpx.Response]:
        """The unread answer to a GET. Not retried: the reader begins anew. Raises TransferFailed."""
        with _streamed(self._http, self._http.build_request("GET", url, headers=_AS_STORED)) as answer:
            if not answer.is_success:
                answer.read()
                raise _refused(answer, "download")
            yield answer


@dataclass(frozen=True)
class Wires:
    """Both, as they are handed to whatever sends or fetches."""

    api: Transport
    store: Store

    def close(self) -> None:
        self.api.close()
        self.store.close()


@contextmanager
def _streamed(http: httpx.Client, request: httpx.Request) -> Iterator[httpx.Response]:
    try:
        answer = http.send(request, stream=True)
        try:
            yield answer
        finally:
            answer.close()
    except httpx.HTTPError as error:
        raise no_answer(error, request.url) from error


def _refused(answer: httpx.Response, what: str) -> FleetError:
    status = answer.status_code
    return TransferFailed(
        f"the object store at {answer.request.url.host} refused the {what} with {status} {answer.reason_phrase}",
        status=status,
        retryable=status in _RETRIED_BY_STORES,
    )


def _checked(url: str) -> httpx.URL:
    try:
        root = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from error
    if root.scheme not in ("http", "https") or not root.host:
        raise ValueError(f"{url!r} is not the URL of a server: it must begin with http:// or https://")
    if root.userinfo:
        raise ValueError("the server's URL must not hold a user name or password: give the key as api_key")
    if root.query or root.fragment:
        raise ValueError(f"{url!r} must be the address of the server alone, without '?' and '#'")
    return root
