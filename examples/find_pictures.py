"""Find pictures by words, or by a picture, with the Python client.

    python examples/find_pictures.py --text "a cat on a sofa" PICTURE... --model NAME
    python examples/find_pictures.py --like cat.jpg PICTURE... --model NAME

All pictures are one job, and what is looked for is another; the nearest come first, each with its cosine. Needs a
running Fleet with a model of the task image-embedding; words need one with a text tower, such as CLIP or SigLIP. None
ships with Fleet: docs/how-to/embed-pictures.md says how to add one. FLEET_URL and FLEET_API_KEY name another server
and its key. Needs numpy.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleet_client import Client, FleetError, JobFailed

Vectors = npt.NDArray[np.float32]


def embedded(fleet: Client, model: str, pictures: list[str]) -> tuple[list[str], Vectors]:
    """Names and vectors, one unit long, of the pictures that could be read."""
    job = fleet.submit(None, pictures, model=model, params={"vectors": "npy"})
    result = job.result()
    with tempfile.TemporaryDirectory() as folder:
        files = {path.name: path for path in job.save(folder)}
        vectors = np.load(files["embeddings.npy"])
    names = [Path(picture).name for picture in pictures]
    if "items" in result:
        for item in result["items"]:
            if "error" in item:
                print(f"{item['name']}: {item['error']['detail']}", file=sys.stderr)
        names = [item["name"] for item in result["items"] if "result" in item]
    return names, vectors


def looked_for(fleet: Client, model: str, text: str | None, like: str | None) -> Vectors:
    """The vector of the words, or of the picture, one unit long."""
    if text is None:
        return np.asarray(embedded(fleet, model, [like or ""])[1][0])
    result = fleet.submit(None, [], model=model, params={"texts": [text]}).result()
    return np.asarray(result["texts"]["embeddings"][0], np.float32)


def main(asked: argparse.Namespace) -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    try:
        with Client(url, os.environ.get("FLEET_API_KEY")) as fleet:
            names, vectors = embedded(fleet, asked.model, asked.pictures)
            cosines = vectors @ looked_for(fleet, asked.model, asked.text, asked.like)
    except JobFailed as error:
        print(f"the job failed: {error}", file=sys.stderr)
        return 1
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    for at in np.argsort(-cosines, kind="stable")[: asked.first]:
        print(f"{cosines[at]:.3f} {names[at]}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Find pictures by words, or by a picture.")
    parser.add_argument("pictures", nargs="+", help="files, at most 256")
    parser.add_argument("--model", required=True)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--text")
    wanted.add_argument("--like", help="a picture")
    parser.add_argument("--first", type=int, default=10, help="how many are shown")
    sys.exit(main(parser.parse_args()))
