"""Names and help texts of every metric, in one place; who measures builds the collectors.

A pair is (name, help). Label values are bounded: tasks, models, stages, queues; never job ids or tenants.
"""

WORKER_CLAIMS_REFUSED = (
    "fleet_worker_claims_refused_total",
    "Messages whose job could not be claimed: duplicates, or jobs that ended meanwhile",
)
WORKER_RUNS = ("fleet_worker_runs_total", "Attempts that ended, by outcome")
WORKER_STAGE_SECONDS = ("fleet_worker_stage_seconds", "Seconds that a job spent in a stage")
#: From a millisecond (a small model) to an hour (a large volume on a CPU).
WORKER_STAGE_SECONDS_BUCKETS = (
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0
)  # fmt: skip
