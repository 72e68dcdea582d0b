"""Look at many pictures in one job with the Python client, and print each answer as soon as it is there.

    python examples/many_pictures.py PLACE... [--model NAME]

A place is a picture, a folder of pictures, a zip, a URL (`https://…`), or a folder in the fleet's own object store
(`s3://BUCKET/inputs/TENANT/…/`). Without one it takes the photographs of models/efficientnet-lite0. Needs a running
Fleet with the model: `fleet up` and `fleet models pull efficientnet-lite0`. FLEET_URL and FLEET_API_KEY name another
server and its key.
"""

import argparse
import os
import sys
from pathlib import Path

from fleet_client import Client, FleetError, JobFailed, JobItem

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "models" / "efficientnet-lite0" / "example"


def told(item: JobItem) -> str:
    """One bad picture fails alone: the others have their answers."""
    if item.error is not None:
        return f"{item.error.detail} [{item.error.code}]"
    result = item.result or {}
    if "predictions" in result:
        return f"{result['top_class']} {result['top_confidence']:.0%}"
    return f"{result['count']} found" if "detections" in result else str(result)


def main(places: list[str], model: str) -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    try:
        with Client(url, os.environ.get("FLEET_API_KEY")) as fleet:
            job = fleet.submit(None, places or [str(PHOTOGRAPHS)], model=model, labels={"example": "many_pictures"})
            for item in job.items():
                print(f"{item.name}: {told(item)}", flush=True)
    except JobFailed as error:
        print(f"the job failed: {error}", file=sys.stderr)
        return 1
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Look at many pictures.")
    parser.add_argument("places", nargs="*")
    parser.add_argument("--model", default="efficientnet-lite0")
    arguments = parser.parse_args()
    sys.exit(main(arguments.places, arguments.model))
