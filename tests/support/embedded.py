"""A job that has made vectors, as the protocol server tells of it."""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.protocol_server import ProtocolServer

VECTORS = np.arange(12, dtype="<f4").reshape(3, 4) / 7


def ended(server: ProtocolServer, data: bytes | None = None, **result: Any) -> dict[str, Any]:
    """A job that made the vectors: in its result, or as the artifact `embeddings.npy`."""
    said = {"count": 3, "dimensions": 4, "normalized": True, "total_tokens": 9, "truncated": 1}
    if data is None:
        return server.job("succeeded", result=said | {"data": base64.b64encode(VECTORS.tobytes()).decode()} | result)
    job = server.succeeded(embeddings__npy=data, tokens__npy=b"tokens")
    return job | {"result": said | {"artifact": "embeddings.npy", "offset": len(data) - VECTORS.nbytes} | result}


def npy(folder: Path) -> bytes:
    np.save(folder / "made.npy", VECTORS)
    return (folder / "made.npy").read_bytes()
