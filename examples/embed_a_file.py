"""Embed a file of texts, millions if need be, with the Python client.

    python examples/embed_a_file.py TEXTS.jsonl [VECTORS.npy] [MODEL]

Each line of the file is a text as JSON, or an object with one as "text". Needs a running Fleet with the model:
`fleet up` and `fleet models pull all-minilm-l6-v2`. FLEET_URL and FLEET_API_KEY name another server and its key.
"""

import os
import sys

from fleet_client import Client, FleetError, JobFailed


def main(texts: str, out: str = "vectors.npy", model: str = "all-minilm-l6-v2") -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    try:
        with Client(url, os.environ.get("FLEET_API_KEY")) as fleet:
            job = fleet.embed_file(texts, model=model, labels={"example": "embed_a_file"})
            print(f"job {job.id}: it goes on when this ends, and goes on where it was when its worker is lost")
            job.wait(progress=True)
            path = fleet.save_embeddings(job, out)
            result = job.result()
            print(f"{path}: {result['count']:,} vectors of {result['dimensions']} numbers; numpy.load reads it")
    except JobFailed as error:
        print(f"the job failed: {error}", file=sys.stderr)
        return 1
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
