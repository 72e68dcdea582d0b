"""Names and help texts of every metric, in one place; who measures builds the collectors.

A pair is (name, help). Label values are bounded: tasks, models, stages, queues; never job ids or tenants.
"""

WORKER_CLAIMS_REFUSED = (
    "fleet_worker_claims_refused_total",
    "Messages whose job could not be claimed: duplicates, or jobs that ended meanwhile",
)
WORKER_MEMORY_USABLE = ("fleet_worker_memory_usable_bytes", "Memory that this worker and its runs may use")
WORKER_MEMORY_GRANTED = ("fleet_worker_memory_granted_bytes", "Memory that its runs were granted, whether taken or not")
WORKER_MEMORY_WAITING = ("fleet_worker_memory_waiting_runs", "Runs that wait for memory")
WORKER_MEMORY_REFUSED = ("fleet_worker_memory_refused_total", "Runs refused because they can never fit this worker")
MODELS_LOADED = ("fleet_worker_models_loaded", "Models that are loaded")
MODELS_BYTES = ("fleet_worker_models_bytes", "Memory that loaded models hold, as far as is known")
MODELS_BUDGET = ("fleet_worker_models_budget_bytes", "Memory that models may hold; 0 where they are counted instead")
MODEL_LOADS = ("fleet_worker_model_loads_total", "Loads of models, by outcome: ok, or the code of the error")
MODEL_LOAD_SECONDS = ("fleet_worker_model_load_seconds", "Seconds that loading a model took, warm-up included")
MODELS_CLOSED = ("fleet_worker_models_closed_total", "Sessions that were closed, by reason")
WORKER_RUNS = ("fleet_worker_runs_total", "Attempts that ended, by outcome")
WORKER_STAGE_SECONDS = ("fleet_worker_stage_seconds", "Seconds that a job spent in a stage")
#: From a millisecond (a small model) to an hour (a large volume on a CPU).
WORKER_STAGE_SECONDS_BUCKETS = (
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0
)  # fmt: skip
MODEL_BATCH_ROWS = ("fleet_model_batch_rows", "Rows of the runs of a model, those of several jobs together")
#: A run beside each power of two: what is asked for as max_batch_size.
MODEL_BATCH_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MODEL_RUN_SECONDS = ("fleet_model_run_seconds", "Seconds of a run of a model")
MODEL_BATCH_WAIT_SECONDS = ("fleet_model_batch_wait_seconds", "Seconds that a call waited to be part of a run")
#: From a tenth of a millisecond: a call that is alone does not wait.
MODEL_SECONDS_BUCKETS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

WORKER_IMPORTS = ("fleet_worker_imports_total", "Imports of model versions that ended on this worker, by outcome")
WORKER_MODEL_BYTES = ("fleet_worker_model_fetched_bytes_total", "Bytes of models that came from the object store")
WORKER_MODEL_CACHE = ("fleet_worker_model_cache_total", "Models that were looked for on the worker's disk, by found")

HTTP_REQUESTS = ("fleet_http_requests_total", "Requests answered, by route template, method and status")
HTTP_SECONDS = ("fleet_http_request_seconds", "Seconds from a request to the end of its answer, waiting included")
#: From a millisecond to the longest `Prefer: wait`.
HTTP_SECONDS_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0, 300.0
)  # fmt: skip
HTTP_JOINED = ("fleet_http_joined_requests", "Requests that a job was made of, of those that may share one, by kind")
#: One: it was alone.
HTTP_JOINED_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
EVENT_STREAMS = ("fleet_http_event_streams", "Event streams that are open")
JOBS_SUBMITTED = ("fleet_jobs_submitted_total", "Jobs accepted, by task and model")
JOBS_REFUSED = ("fleet_jobs_refused_total", "Submits refused since too much waits, or no worker can run them, by code")
PUBLICATIONS_FAILED = ("fleet_publications_failed_total", "Jobs accepted while the broker could not be told")
QUEUE_JOBS = ("fleet_queue_jobs", "Jobs that wait, by queue, as the record knows them")
QUEUE_HELD = ("fleet_queue_held_jobs", "Of these, jobs that wait in the record for their tenant's turn, by queue")
QUEUE_WINDOW = ("fleet_queue_window_jobs", "Messages that a tenant of weight 1 may have in a queue in which jobs wait")
QUEUE_AGED = ("fleet_queue_aged_jobs", "Jobs that wait in a queue and were asked for with a lower priority")
QUEUE_WAIT_SECONDS = ("fleet_queue_wait_seconds", "Seconds that a job is expected to wait that comes now, by queue")
QUEUE_HELPERS = ("fleet_queue_helpers", "CPU workers that take from a queue of the GPUs")
QUEUE_OLDEST_SECONDS = ("fleet_queue_oldest_seconds", "Age of the job that has waited longest, by queue")
QUEUE_MESSAGES = ("fleet_queue_messages", "Messages that lie in the broker, by queue")
WORKERS_ALIVE = ("fleet_workers_alive", "Workers seen lately and not draining, by pool")
MODEL_JOBS = ("fleet_model_jobs_total", "Jobs of a model version that ended on a worker since ever, by outcome")
MODEL_ITEMS = ("fleet_model_items_total", "Items of the batches that a model version was run with since ever")
MODEL_RUNS = ("fleet_model_runs_total", "Runs of a model version since ever")
MODEL_INFER_SECONDS = ("fleet_model_infer_seconds_total", "Seconds that jobs spent in a model version since ever")
WEBHOOK_TRIES = ("fleet_webhook_tries_total", "Tries to deliver a webhook, by the state of the delivery after them")
WEBHOOKS_PENDING = ("fleet_webhooks_pending", "Webhooks that are not delivered yet, as the record knows them")
WEBHOOK_OLDEST_SECONDS = ("fleet_webhook_oldest_seconds", "Age of the webhook that has waited longest")
RECONCILER_LEADER = ("fleet_reconciler_leader", "1 in the one api process whose reconciler works, else 0")
RECONCILER_ACTIONS = ("fleet_reconciler_actions_total", "What the reconciler repaired or swept, by action")
RECONCILER_FAULTS = ("fleet_reconciler_faults_total", "Steps of the reconciler that failed, by step")
SWEEP_LAG_SECONDS = ("fleet_sweep_lag_seconds", "Age of the oldest deletion of an ended job that is not done yet")
