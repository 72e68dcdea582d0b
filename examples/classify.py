"""Classify pictures with the Python client: photographs, or zips of them, all in one job.

    python examples/classify.py PICTURE... [--model NAME]

Without a picture it takes the two of models/efficientnet-lite0. Needs a running Fleet with the model: `fleet up` and
`fleet models pull efficientnet-lite0`. FLEET_URL and FLEET_API_KEY name another server and its key.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fleet_client import Client, FleetError, Job, JobFailed

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "models" / "efficientnet-lite0" / "example"


def items(job: Job, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One for each picture: in the result where they are few, else the lines of an artifact."""
    if "artifact" not in result:
        yield from result["items"]
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = {path.name: path for path in job.save(folder)}
        with paths[result["artifact"]].open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def main(pictures: list[str], model: str) -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    chosen = pictures or sorted(map(str, PHOTOGRAPHS.glob("*.jpg")))
    # A lone picture has a lone answer, and a lone zip has a list.
    try:
        with Client(url, os.environ.get("FLEET_API_KEY")) as fleet:
            job = fleet.submit(None, chosen, model=model, params={"top_k": 3})
            result = job.result()
            answers: Iterable[Any] = (
                items(job, result) if "count" in result else [{"name": Path(chosen[0]).name, "result": result}]
            )
            for item in answers:
                if "error" in item:
                    print(f"{item['name']}: {item['error']['detail']}")
                    continue
                said = [f"{one['class_name']} {one['confidence']:.0%}" for one in item["result"]["predictions"]]
                print(f"{item['name']}: {', '.join(said)}")
    except JobFailed as error:
        print(f"the job failed: {error}", file=sys.stderr)
        return 1
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Classify pictures.")
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--model", default="efficientnet-lite0")
    arguments = parser.parse_args()
    sys.exit(main(arguments.pictures, arguments.model))
