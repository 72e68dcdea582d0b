"""The answer to an inference request, as Triton writes it: JSON, and behind it the tensors that were asked for so."""

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from fastapi import Response
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse

from api.kserve.body import mapped
from api.kserve.elements import to_json
from api.kserve.request import HEADER_LENGTH, InferRequest
from fleet.contracts import Job
from fleet.errors import FleetError
from fleet.objects import ObjectStore
from fleet.tensors import Blob, split

#: An answer of more goes out in pieces.
_PIECE = 1024 * 1024
#: zlib's way to say which wrapping it is; the fastest level, since tensors hardly shrink.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_LEVEL = 1


def answer(
    asked: InferRequest, job: Job, objects: ObjectStore, coding: str | None, headers: dict[str, str]
) -> Response:
    """Raises ValidationFailed for an output that has no form in JSON, NotFound, DependencyError."""
    tensors = {tensor.name: tensor for tensor in _tensors(job, objects)}
    described: list[dict[str, Any]] = []
    blobs: list[bytes | memoryview] = []
    binary = False
    for output in asked.outputs:
        tensor = tensors[output.name]
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if output.binary:
            entry["parameters"] = {"binary_data_size": len(tensor.data)}
            blobs.append(tensor.data)
            binary = True
        else:
            entry["data"] = orjson.Fragment(to_json(tensor.name, tensor.datatype, memoryview(tensor.data)))
        described.append(entry)
    document: dict[str, Any] = {"model_name": job.model, "model_version": str(job.version), "outputs": described}
    if asked.id is not None:
        document = {"id": asked.id, **document}
    text = orjson.dumps(document)
    more = dict(headers)
    if binary:
        more[HEADER_LENGTH] = str(len(text))
    return _sent([text, *blobs], "application/octet-stream" if binary else "application/json", coding, more)


def coding_wanted(headers: Headers) -> str | None:
    """The one coding that a client accepts, as Triton's asks for it.

    Who lists several merely could read them, and tensors hardly shrink.
    """
    accepted = set()
    for member in ",".join(headers.getlist("accept-encoding")).split(","):
        name, _, weight = member.strip().lower().partition(";")
        if weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            accepted.add(name.strip())
    accepted -= {"", "identity"}
    (only,) = accepted if len(accepted) == 1 else [None]
    return only if only in _WINDOWS else None


def _tensors(job: Job, objects: ObjectStore) -> list[Blob]:
    result: Mapping[str, Any] = job.result or {}
    described: Sequence[dict[str, Any]] = result.get("outputs", [])
    if "artifact" not in result:
        return split(described, base64.b64decode(result.get("data", "")))
    artifact = next((artifact for artifact in job.artifacts if artifact.name == result["artifact"]), None)
    if artifact is None:
        raise FleetError(f"the result of job {job.id} has no {result['artifact']!r}")
    with TemporaryDirectory(prefix="fleet-answer-") as folder:
        path = Path(folder) / "outputs"
        objects.fetch(artifact.object, path)
        with path.open("rb") as file:
            return split(described, mapped(file))


def _sent(
    parts: Sequence[bytes | memoryview], media_type: str, coding: str | None, headers: dict[str, str]
) -> Response:
    size = sum(map(len, parts))
    if coding is not None:
        headers["content-encoding"] = coding
    if size <= _PIECE:
        whole = b"".join(parts)
        return Response(whole if coding is None else b"".join(_deflated([whole], coding)), 200, headers, media_type)
    pieces = (bytes(part[at : at + _PIECE]) for part in parts for at in range(0, len(part), _PIECE))
    if coding is None:
        headers["content-length"] = str(size)
    return StreamingResponse(pieces if coding is None else _deflated(pieces, coding), 200, headers, media_type)


def _deflated(pieces: Iterable[bytes], coding: str) -> Iterator[bytes]:
    stream = zlib.compressobj(_LEVEL, wbits=_WINDOWS[coding])
    for piece in pieces:
        yield stream.compress(piece)
    yield stream.flush()
