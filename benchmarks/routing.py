"""Where jobs run, and how long they wait for it: our routing against three others and against what is possible.

    make bench-routing                              (small scale: simulated, then with real processes; five minutes)
    make bench-routing ARGS="--scale large"         (200 workers; a day of 1,000,000 jobs; about twelve minutes)
    make bench-routing ARGS="--scenario burst --seed 2 --no-replay --json"

A discrete-event simulator (`routing_lab/`, its clock is simpy's) calls the very functions that a fleet decides with:
`fleet/routing.py`, `shares.py`, `ageing.py` and `cost.py`, the last one learning as the simulated jobs end. Around
them it has what makes a fleet slow to react: the leader looks once a second and feeds as `api/feeder.py` does, workers
read its row up to 0.93 s later and finish their wait at the broker, running jobs are never interrupted, estimates
begin with what the cards say, and a dead machine is believed alive for 15 s and its jobs come back after 26 s.

    ours               what a fleet does
    gpu only           what may run on a GPU waits for one
    depth at enqueue   the pool with fewer jobs a slot, exactly known at the submit; for good
    split N%           that part of what may run on both goes to the CPUs; the best of five, chosen in hindsight

wait: start - submit. stay: end - submit, which is what a user sees: a job that starts at once on a slow device has
waited for nothing and stays long. needless: flexible jobs that began on a CPU while a GPU slot was free. The bound is
explained in `routing_lab/bound.py`. The replay runs the small scenarios with real processes and sets the simulator's
forecast beside them. docs/routing.md has the results.
"""

import argparse
import json
from dataclasses import asdict

from routing_lab.replay import REPLAYED, replay, replay_table
from routing_lab.runs import compared, made
from routing_lab.scenarios import SCENARIOS
from routing_lab.tables import summary, verdict, waits


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scale", choices=("small", "large", "all"), default="small")
    options.add_argument("--scenario", choices=sorted(SCENARIOS), action="append", help="may be given several times")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--no-replay", action="store_true", help="simulate only")
    options.add_argument("--json", action="store_true", help="one line of JSON for each policy and scenario")
    chosen = options.parse_args()
    names = chosen.scenario or list(SCENARIOS)
    scales = ("small", "large") if chosen.scale == "all" else (chosen.scale,)
    for scale in scales:
        for name in names:
            outcomes = list(compared(scale, name, chosen.seed))
            if chosen.json:
                for outcome in outcomes:
                    print(json.dumps({**asdict(outcome), "ratio": outcome.ratio}), flush=True)
            else:
                print(summary(outcomes), waits(outcomes), verdict(outcomes), "", sep="\n", flush=True)
    for name in names if "small" in scales and not chosen.no_replay else ():
        if name in REPLAYED:
            print(replay_table(name, replay(made(name, "small", chosen.seed), chosen.seed)), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
