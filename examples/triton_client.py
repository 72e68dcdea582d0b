"""Run a model with Triton's own Python client: what was written for a Triton server works, with another address.

    pip install "tritonclient[http]"
    python examples/triton_client.py MODEL

Needs a running Fleet (`fleet up`) with a model that takes tensors. FLEET_URL and FLEET_API_KEY name another server and
its key. Sends one request of ones, with each free dimension as 1, and prints what comes back.
"""

import os
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def ones(tensor: dict[str, Any]) -> triton.InferInput:
    """A tensor as the model's metadata describe it; strings are "1"."""
    shape = [1 if size == -1 else int(size) for size in tensor["shape"]]
    given = triton.InferInput(tensor["name"], shape, tensor["datatype"])
    given.set_data_from_numpy(
        np.ones(shape).astype(int).astype(str).astype(np.object_)
        if tensor["datatype"] == "BYTES"
        else np.ones(shape, triton_to_np_dtype(tensor["datatype"]))
    )
    return given


def main(model: str) -> int:
    address = os.environ.get("FLEET_URL", "http://127.0.0.1:8000").removeprefix("http://")
    key = os.environ.get("FLEET_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with triton.InferenceServerClient(address) as client:
            about = client.get_model_metadata(model, headers=dict(headers))
            inputs = [ones(tensor) for tensor in about["inputs"]]
            # The client adds to the headers that it is given: each call gets its own.
            result = client.infer(model, inputs, priority=2, timeout=30_000_000, headers=dict(headers))
            for output in about["outputs"]:
                array = result.as_numpy(output["name"])
                print(output["name"], array.dtype, list(array.shape), array.ravel()[:8].tolist())
    except InferenceServerException as error:
        print(error.message(), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else __doc__)
