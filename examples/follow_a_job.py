"""Follow a job from outside: one line whenever it has changed, up to its end, whoever submitted it.

    python examples/follow_a_job.py JOB_ID

Needs a running Fleet: `fleet up`. FLEET_URL and FLEET_API_KEY name another server and its key. The server may be
restarted meanwhile: the client goes on where the events broke off.
"""

import os
import sys

from fleet_client import Client, FleetError


def main(job_id: str) -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    try:
        with Client(url, os.environ.get("FLEET_API_KEY")) as fleet:
            for job in fleet.job(job_id).events():
                print(*filter(None, [job.state, job.stage]), f"{job.progress:.0%}", flush=True)
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else __doc__)
