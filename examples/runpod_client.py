"""Ask about pictures with RunPod's own Python client: what was written for RunPod works, with another address.

    pip install runpod
    python examples/runpod_client.py MODEL PICTURE...

Needs a running Fleet (`fleet up`) with a model for pictures, for instance after `fleet models pull efficientnet-lite0`.
FLEET_URL and FLEET_API_KEY name another server and its key. Prints each picture's answer as soon as it is there.
"""

import base64
import json
import os
import sys
from pathlib import Path

# Read by the client when it is imported.
os.environ["RUNPOD_ENDPOINT_BASE_URL"] = f"{os.environ.get('FLEET_URL', 'http://127.0.0.1:8000')}/runpod/v2"

import requests
import runpod  # type: ignore[import-untyped]


def main(model: str, pictures: list[Path]) -> int:
    runpod.api_key = os.environ.get("FLEET_API_KEY") or "none needed"
    endpoint = runpod.Endpoint(model)
    images = [base64.b64encode(picture.read_bytes()).decode() for picture in pictures]
    try:
        if len(images) == 1:
            output = endpoint.run_sync({"input": {"image": images[0]}})
            print(json.dumps(output["result"] if output["success"] else output["error"]))
            return 0 if output["success"] else 1
        for item in endpoint.run({"input": {"images": images}}).stream():
            print(pictures[item["index"]].name, json.dumps(item.get("result", item.get("error"))), flush=True)
    except requests.HTTPError as error:
        print(error if error.response is None else error.response.json()["error"], file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], [Path(name) for name in sys.argv[2:]]))
