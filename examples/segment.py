"""Segment a volume with the Python client, and say how large the brain is.

    python examples/segment.py [SCAN] [OUT]

Needs a running Fleet: `fleet up`. FLEET_URL and FLEET_API_KEY name another server and its key.
"""

import os
import sys
from pathlib import Path

from fleet_client import Client, FleetError, JobFailed

HEAD = Path(__file__).parent / "data" / "head-t1.nii.gz"


def main(scan: str = str(HEAD), out: str = "out") -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    try:
        with Client(url, os.environ.get("FLEET_API_KEY")) as fleet:
            job = fleet.segment(scan, model="brain-extraction", preview=True, labels={"example": "segment"})
            job.wait(progress=True)
            for label in job.result()["labels"]:
                print(f"{label['name']}: {label['volume_ml']:.1f} ml in {label['voxels']} voxels")
            for path in job.save(out):
                print(path)
    except JobFailed as error:
        print(f"the job failed: {error}", file=sys.stderr)
        return 1
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
