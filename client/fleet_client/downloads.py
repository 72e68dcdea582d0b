"""Artifacts on their way to disk: streamed, verified, and in place at once or not at all."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from urllib.parse import quote

import httpx

from fleet_client.errors import ChecksumMismatch, TransferFailed
from fleet_client.problems import no_answer
from fleet_client.records import Artifact, Transfer
from fleet_client.transport import Wires
from fleet_client.uploads import OnTransfer

_CHUNK = 1024 * 1024


def fetch(
    wires: Wires,
    job_id: str,
    artifact: Artifact,
    folder: Path,
    on_transfer: OnTransfer | None = None,
) -> Path:
    """Downloads one artifact into `folder` and returns its path; a file of that name is replaced.

    Raises ChecksumMismatch, TransferFailed, ConnectionFailed, Timeout, APIError, OSError; then `folder` is as before.
    """
    target = folder / _plain_name(artifact.name)
    # The documented path rather than `artifact.url`: it also holds behind a tunnel, and the key stays with our server.
    path = f"jobs/{job_id}/artifacts/{quote(artifact.name, safe='')}"
    temporary = folder / f".{secrets.token_hex(8)}.part"

    def once() -> None:
        with _opened(wires, path) as answer, temporary.open("wb") as file:
            digest, size = hashlib.sha256(), 0
            for chunk in _chunks(answer):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                if artifact.size is not None and size > artifact.size:
                    break
                if on_transfer is not None:
                    on_transfer(Transfer(artifact.name, size, artifact.size))
        _verify(artifact, size, digest.hexdigest())

    try:
        wires.api.retries.run(once)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


@contextmanager
def _opened(wires: Wires, path: str) -> Iterator[httpx.Response]:
    """The bytes' answer: the API's own, or that of the store that it sends us to."""
    with wires.api.open(path) as answer:
        if isinstance(answer, httpx.Response):
            yield answer
            return
    if not answer.startswith(("http://", "https://")):
        raise TransferFailed("the server redirects the download to something that is not HTTP")
    with wires.store.open(answer) as stored:
        yield stored


def _chunks(answer: httpx.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_raw(_CHUNK)
    except httpx.HTTPError as error:
        raise no_answer(error, answer.request.url) from error


def _verify(artifact: Artifact, size: int, sha256: str) -> None:
    if artifact.size is not None and size != artifact.size:
        raise ChecksumMismatch(
            f"{artifact.name}: {size} bytes arrived, the job made {artifact.size}; nothing was saved", retryable=True
        )
    if artifact.sha256 is not None and sha256 != artifact.sha256:
        raise ChecksumMismatch(
            f"{artifact.name}: its SHA-256 is {sha256}, the job made {artifact.sha256}; nothing was saved"
        )


def _plain_name(name: str) -> str:
    """`name` when it is one file in one folder on any system; the server's word is not enough for that."""
    hostile = name in ("", ".", "..") or PureWindowsPath(name).name != name or not name.isprintable()
    if hostile or Path(name).name != name:
        raise TransferFailed(f"the server names an artifact {name!r}, which is not a plain file name: not saved")
    return name
