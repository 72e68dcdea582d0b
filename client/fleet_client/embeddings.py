"""Vectors of texts: a few at once, or a file of millions as one job. Part of `Client`."""

import base64
import json
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, overload

from fleet_client import downloads
from fleet_client.errors import TransferFailed
from fleet_client.job import Job
from fleet_client.records import Callback, ObjectRef, Upload
from fleet_client.sources import Sendable
from fleet_client.transport import Wires
from fleet_client.uploads import OnTransfer

TASK = "text-embedding"
#: For a file: of one attempt. What an attempt has finished is kept for the next one, so that a long run is no fault.
_DAY_S = 86_400.0
_NUMBER_BYTES = 4


@dataclass(frozen=True)
class Embeddings:
    """Vectors in the order of their texts: `len`, `[n]`, `[m:n]` and iteration give lists of numbers.

    As an array of NumPy: `numpy.frombuffer(found.data, "<f4").reshape(-1, found.dimensions)`.
    """

    #: Numbers of each vector.
    dimensions: int
    #: Whether each vector is one unit long.
    normalized: bool
    #: Tokens that were fed, special ones included.
    total_tokens: int
    #: Texts of which a part was cut off.
    truncated: int
    #: float32, little-endian, one vector after the other.
    data: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.data) // (self.dimensions * _NUMBER_BYTES)

    @overload
    def __getitem__(self, number: int) -> list[float]: ...

    @overload
    def __getitem__(self, number: slice) -> list[list[float]]: ...

    def __getitem__(self, number: int | slice) -> list[float] | list[list[float]]:
        if isinstance(number, slice):
            return [self[chosen] for chosen in range(len(self))[number]]
        place = range(len(self))[number] * self.dimensions * _NUMBER_BYTES
        return list(struct.unpack_from(f"<{self.dimensions}f", self.data, place))

    def __iter__(self) -> Iterator[list[float]]:
        return (self[number] for number in range(len(self)))

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes a file that `numpy.load` reads."""
        target = Path(path).expanduser()
        target.write_bytes(_header(len(self), self.dimensions) + self.data)
        return target


class EmbeddingCalls:
    """Texts in, vectors out."""

    _wires: Wires
    submit: Callable[..., Job]

    def embed(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[int]],
        *,
        model: str,
        version: int | None = None,
        kind: str | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: str | None = None,
        priority: str = "normal",
        timeout: float | None = None,
    ) -> Embeddings:
        """The vectors of as many texts as the model takes at once, most often 2,048; or of lists of its token ids.

        kind: "query" or "passage" puts the model's prompt for it before each text, prompt: the one of this name.
        dimensions: cuts the vectors, where the model allows it.
        truncate: "refuse", or cut the "end" or "start" off texts that are too long; None: as the model's author says.
        timeout: seconds to wait at most.

        Raises what `submit` and `Job.wait` raise: JobFailed, with the error's code, for what is wrong with a text.
        """
        given = json.dumps([texts] if isinstance(texts, str) else list(texts)).encode()
        job = self.submit(
            TASK,
            [given],
            model=model,
            version=version,
            params=_params(kind=kind, prompt=prompt, dimensions=dimensions, truncate=truncate),
            priority=priority,
            wait_s=20,
        )
        return self.embeddings(job.wait(timeout=timeout))

    def embed_file(
        self,
        source: Sendable | Upload | ObjectRef,
        *,
        model: str,
        version: int | None = None,
        kind: str | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: str | None = None,
        first: int | None = None,
        count: int | None = None,
        priority: str = "normal",
        lane: str = "bulk",
        labels: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        execution_timeout_s: float | None = _DAY_S,
        max_attempts: int | None = None,
        retention_s: float | None = None,
        callback: str | Callback | None = None,
        idempotency_key: str | None = None,
        on_upload: OnTransfer | None = None,
    ) -> Job:
        """Submits a file of texts, millions if need be, as one job; `save_embeddings` fetches its vectors.

        source: JSON lines under a name that ends in ".jsonl". A line is a text, a list of token ids, or an object with
        one of them as "text". first, count: which lines, counted from 0; None: all.
        lane: "bulk" keeps it out of the way of short requests. execution_timeout_s: of one attempt.
        See `embed` and `submit` for the rest.
        """
        return self.submit(
            TASK,
            [source],
            model=model,
            version=version,
            params=_params(
                kind=kind, prompt=prompt, dimensions=dimensions, truncate=truncate, first=first, count=count
            ),
            priority=priority,
            lane=lane,
            labels=labels,
            deadline_s=deadline_s,
            execution_timeout_s=execution_timeout_s,
            max_attempts=max_attempts,
            retention_s=retention_s,
            callback=callback,
            idempotency_key=idempotency_key,
            on_upload=on_upload,
        )

    def embeddings(self, job: Job) -> Embeddings:
        """The vectors of a job, in memory. Waits for its end and raises like `Job.result`; ValueError without any."""
        result = _result(job)
        if result.get("data") is not None:
            data = base64.b64decode(result["data"])
        else:
            with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
                data = self._fetched(job, result, Path(folder), None).read_bytes()[result.get("offset", 0) :]
        found = Embeddings(
            dimensions=result["dimensions"],
            normalized=result.get("normalized", False),
            total_tokens=result.get("total_tokens", 0),
            truncated=result.get("truncated", 0),
            data=data,
        )
        if len(data) != result["count"] * found.dimensions * _NUMBER_BYTES:
            raise TransferFailed(f"{len(data)} bytes are not {result['count']} vectors of {found.dimensions} numbers")
        return found

    def save_embeddings(self, job: Job, path: str | PathLike[str], *, on_download: OnTransfer | None = None) -> Path:
        """The vectors of a job as a file that `numpy.load` reads, streamed to disk and verified; replaces `path`.

        Waits for the job's end. Raises like `Job.save`.
        """
        result = _result(job)
        target = Path(path).expanduser()
        if result.get("data") is not None:
            return self.embeddings(job).save(target)
        with tempfile.TemporaryDirectory(prefix=".fleet-", dir=target.parent) as folder:
            self._fetched(job, result, Path(folder), on_download).replace(target)
        return target

    def _fetched(self, job: Job, result: Mapping[str, Any], folder: Path, on_download: OnTransfer | None) -> Path:
        name = result.get("artifact")
        artifact = next((one for one in job.artifacts if one.name == name), None)
        if artifact is None:
            raise TransferFailed(f"job {job.id} has no artifact {name!r}, in which its vectors are said to be")
        return downloads.fetch(self._wires, job.id, artifact, folder, on_download)


def _result(job: Job) -> dict[str, Any]:
    result = job.result()
    if not {"count", "dimensions"} <= result.keys():
        raise ValueError(f"job {job.id} has no vectors: its task is {job.record.task}")
    return result


def _params(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _header(count: int, dimensions: int) -> bytes:
    """Of a file in NumPy's format 1.0: the numbers begin at a multiple of 64 bytes."""
    said = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dimensions}), }}"
    said += " " * (-(10 + len(said) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said.encode("latin-1")
