-- submit_job --
-- Stores the job and, in the same statement, its idempotency key and the mark on the uploads it uses.
-- No row: the key belongs to another job (see find_by_key), or an upload has just been deleted. Safe to repeat: the
-- id is the caller's. The uploads are locked first, so that none is deleted between our look and our mark.
WITH ready AS MATERIALIZED (
    SELECT id FROM upload
     WHERE tenant = %(tenant)s AND id = ANY(%(uploads)s) AND (used_at IS NOT NULL OR expires_at > clock_timestamp())
       FOR UPDATE
), complete AS MATERIALIZED (
    SELECT count(*) = cardinality(%(uploads)s::uuid[]) AS ok FROM ready
), claimed_key AS (
    INSERT INTO idempotency (tenant, key, fingerprint, job_id, expires_at)
    SELECT %(tenant)s, %(idempotency_key)s, %(fingerprint)s, %(id)s,
           clock_timestamp() + %(idempotency_ttl_s)s * interval '1 second'
     WHERE %(idempotency_key)s::text IS NOT NULL AND (SELECT ok FROM complete)
    ON CONFLICT (tenant, key) DO UPDATE
       SET fingerprint = excluded.fingerprint, job_id = excluded.job_id, expires_at = excluded.expires_at
     WHERE idempotency.expires_at < clock_timestamp()
    RETURNING job_id
), used AS (
    UPDATE upload SET used_at = clock_timestamp(), state = 'complete'
     WHERE id IN (SELECT id FROM ready) AND (SELECT ok FROM complete)
       AND (%(idempotency_key)s::text IS NULL OR EXISTS (SELECT FROM claimed_key))
), sourced AS (
    -- What must not be swept while this job exists: uploads, and jobs whose results it reads.
    INSERT INTO job_source (job_id, source_id)
    SELECT %(id)s, source_id FROM unnest(%(uploads)s::uuid[] || %(source_jobs)s::uuid[]) AS source_id
     WHERE (SELECT ok FROM complete) AND (%(idempotency_key)s::text IS NULL OR EXISTS (SELECT FROM claimed_key))
    ON CONFLICT DO NOTHING
)
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, route_reason, params, inputs, labels,
                 max_attempts, deadline, deadline_s, execution_timeout_s, retention_s, trace_context, callback,
                 published_at, publish_after)
SELECT %(id)s, %(tenant)s, %(task)s, %(model)s, %(version)s, %(lane)s, %(priority)s, %(pool)s, %(queue)s,
       %(route_reason)s, %(params)s, %(inputs)s, %(labels)s, %(max_attempts)s,
       clock_timestamp() + %(deadline_s)s * interval '1 second', %(deadline_s)s, %(execution_timeout_s)s,
       %(retention_s)s, %(trace_context)s, %(callback)s,
       CASE WHEN %(published)s THEN clock_timestamp() END, clock_timestamp()
 WHERE (SELECT ok FROM complete) AND (%(idempotency_key)s::text IS NULL OR EXISTS (SELECT FROM claimed_key))
ON CONFLICT (id) DO NOTHING
RETURNING *

-- find_by_key --
-- The job that an idempotency key stands for.
SELECT job.*, idempotency.fingerprint
  FROM idempotency JOIN job ON job.id = idempotency.job_id
 WHERE idempotency.tenant = %(tenant)s AND idempotency.key = %(key)s AND idempotency.expires_at > clock_timestamp()
   AND job.deleted_at IS NULL

-- publication_failed --
-- The doorbell could not be rung: the reconciler will do it.
UPDATE job SET published_at = NULL, publish_seq = publish_seq + 1, publish_after = clock_timestamp() + interval '1 second'
 WHERE id = %(id)s AND state = 'queued' AND publish_seq = %(publish_seq)s

-- get_job --
-- A tenant does not see what it has deleted; whoever asks without a tenant does.
SELECT * FROM job
 WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s AND deleted_at IS NULL)

-- list_jobs --
-- Newest first, by key: ids are ordered by time.
SELECT * FROM job
 WHERE tenant = %(tenant)s AND deleted_at IS NULL
   AND (%(before)s::uuid IS NULL OR id < %(before)s)
   AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
   AND (%(cancelling)s::boolean IS NULL OR cancel_requested = %(cancelling)s)
   AND (%(model)s::text IS NULL OR model = %(model)s)
   AND (%(task)s::text IS NULL OR task = %(task)s)
   AND (%(priority)s::smallint IS NULL OR priority = %(priority)s)
   AND (%(labels)s::jsonb IS NULL OR labels @> %(labels)s)
   AND (%(created_after)s::timestamptz IS NULL OR created_at >= %(created_after)s)
   AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s)
 ORDER BY id DESC
 LIMIT %(limit)s

-- claim_job --
-- The first statement of a run. No row: the message is a duplicate or stale; do nothing.
-- Safe to repeat: the owner is unique to this claim, and a claim that it holds already is only told again.
-- A claim through an older message than the last one published says nothing about the order of the queue.
UPDATE job
   SET state = 'running', attempt = attempt + CASE WHEN state = 'running' AND lease_owner = %(owner)s THEN 0 ELSE 1 END,
       lease_owner = %(owner)s, stage = NULL, progress = 0, error = NULL, revision = revision + 1,
       lease_until = clock_timestamp() + %(lease_s)s * interval '1 second',
       published_at = CASE WHEN publish_seq = %(seq)s THEN published_at END,
       started_at = coalesce(started_at, clock_timestamp())
 WHERE id = %(id)s
   AND (state = 'running' AND lease_owner = %(owner)s
        OR NOT cancel_requested AND attempt - forgiven < max_attempts
           AND (deadline IS NULL OR deadline > clock_timestamp())
           AND (state = 'queued' OR state = 'running' AND lease_until < clock_timestamp()))
RETURNING *, extract(epoch FROM clock_timestamp() - queued_at)::float8 AS waited_s

-- renew_leases --
-- All leases of one process in one statement. A job that is missing from the answer is lost to this process.
UPDATE job SET lease_until = clock_timestamp() + %(lease_s)s * interval '1 second'
  FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS held (id, attempt)
 WHERE job.id = held.id AND job.attempt = held.attempt AND job.state = 'running'
RETURNING job.id, job.attempt, job.cancel_requested, coalesce(job.deadline <= clock_timestamp(), false) AS overdue

-- watch_leases --
-- Between two renewals: the same question without a write.
SELECT job.id, job.attempt, job.cancel_requested, coalesce(job.deadline <= clock_timestamp(), false) AS overdue
  FROM job JOIN unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS held (id, attempt)
       ON job.id = held.id AND job.attempt = held.attempt
 WHERE job.state = 'running'

-- note_progress --
UPDATE job SET stage = told.stage, progress = told.progress, revision = revision + 1
  FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(stages)s::text[], %(progress)s::real[])
       AS told (id, attempt, stage, progress)
 WHERE job.id = told.id AND job.attempt = told.attempt AND job.state = 'running'

-- finish_job --
-- Only the current token wins.
UPDATE job
   SET state = 'succeeded', result = %(result)s, artifacts = %(artifacts)s, inputs = %(inputs)s, timings = %(timings)s,
       ran_on = %(ran_on)s, stage = NULL, progress = 1, revision = revision + 1, finished_at = clock_timestamp(),
       expires_at = clock_timestamp() + retention_s * interval '1 second', lease_owner = NULL, lease_until = NULL
 WHERE id = %(id)s AND state = 'running' AND attempt = %(attempt)s
RETURNING *

-- won_job --
-- Did this attempt win? Asked after a finish without a row (its answer may have got lost), and before the objects of
-- an attempt are thrown away.
SELECT * FROM job WHERE id = %(id)s AND state = 'succeeded' AND attempt = %(attempt)s

-- fail_job --
-- A retryable failure goes back to the queue with a growing, jittered pause while attempts are left.
UPDATE job
   SET state = fate.state, error = %(error)s, timings = %(timings)s, ran_on = %(ran_on)s, stage = NULL,
       progress = CASE WHEN fate.ended THEN progress ELSE 0 END, revision = revision + 1,
       history = with_attempt(history, attempt, split_part(lease_owner, '#', 1), 'failed', %(error)s::jsonb ->> 'code'),
       lease_owner = NULL, lease_until = NULL, published_at = NULL, publish_seq = publish_seq + 1,
       publish_after = clock_timestamp() + least(300, 2 ^ least(attempt - forgiven, 10)) * (0.5 + random() / 2) * interval '1 second',
       finished_at = CASE WHEN fate.ended THEN clock_timestamp() END,
       expires_at = CASE WHEN fate.ended THEN clock_timestamp() + retention_s * interval '1 second' END
  FROM (SELECT id AS job_id, state, state <> 'queued' AS ended
          FROM (SELECT id, CASE WHEN cancel_requested THEN 'cancelled'
                                WHEN %(retryable)s AND attempt - forgiven < max_attempts THEN 'queued'
                                ELSE 'failed' END AS state
                  FROM job WHERE id = %(id)s FOR UPDATE) AS decided) AS fate
 WHERE id = fate.job_id AND job.state = 'running' AND attempt = %(attempt)s
RETURNING job.*

-- stop_job --
-- The run has really stopped: cancelled or expired.
UPDATE job
   SET state = %(state)s, error = %(error)s, timings = %(timings)s, ran_on = %(ran_on)s, stage = NULL,
       revision = revision + 1, finished_at = clock_timestamp(),
       expires_at = clock_timestamp() + retention_s * interval '1 second', lease_owner = NULL, lease_until = NULL
 WHERE id = %(id)s AND state = 'running' AND attempt = %(attempt)s
RETURNING *

-- hand_back_job --
-- A worker that drains, or that cannot serve the model, returns its lease without spending an attempt; the token
-- still grows with the next claim. What was to be cancelled has stopped now.
UPDATE job
   SET state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'queued' END,
       finished_at = CASE WHEN cancel_requested THEN clock_timestamp() END,
       expires_at = CASE WHEN cancel_requested THEN clock_timestamp() + retention_s * interval '1 second' END,
       history = with_attempt(history, attempt, split_part(lease_owner, '#', 1), 'handed-back', %(reason)s),
       forgiven = forgiven + 1, stage = NULL, progress = 0, revision = revision + 1,
       lease_owner = NULL, lease_until = NULL,
       published_at = NULL, publish_seq = publish_seq + 1,
       publish_after = clock_timestamp() + %(pause_s)s * interval '1 second'
 WHERE id = %(id)s AND state = 'running' AND attempt = %(attempt)s
RETURNING *

-- cancel_job --
-- Queued: cancelled at once. Running: asked; the worker confirms.
UPDATE job
   SET cancel_requested = true,
       state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END,
       revision = revision + 1,
       finished_at = CASE WHEN state = 'queued' THEN clock_timestamp() END,
       expires_at = CASE WHEN state = 'queued' THEN clock_timestamp() + retention_s * interval '1 second' END
 WHERE id = %(id)s AND tenant = %(tenant)s AND state IN ('queued', 'running') AND deleted_at IS NULL
RETURNING *

-- retry_job --
-- By hand, after an end that was not a success: the attempts so far are forgiven, the token goes on growing.
UPDATE job
   SET state = 'queued', forgiven = attempt, losses = 0, retries = retries + 1, cancel_requested = false,
       error = NULL, timings = '{}', ran_on = NULL, stage = NULL, progress = 0, revision = revision + 1,
       history = with_attempt(history, attempt, NULL, 'retried', state),
       started_at = NULL, finished_at = NULL, expires_at = NULL, queued_at = clock_timestamp(),
       deadline_s = coalesce(%(deadline_s)s, deadline_s),
       deadline = clock_timestamp() + coalesce(%(deadline_s)s, deadline_s) * interval '1 second',
       published_at = clock_timestamp(), publish_seq = publish_seq + 1, publish_after = clock_timestamp()
 WHERE id = %(id)s AND tenant = %(tenant)s AND state IN ('failed', 'cancelled', 'expired') AND deleted_at IS NULL
RETURNING *

-- lapse_leases --
-- The worker died, froze or lost its way: the job is taken again, or ends.
WITH fate AS MATERIALIZED (
    SELECT job.id AS job_id, attempt - forgiven AS spent, split_part(lease_owner, '#', 1) AS worker,
           coalesce(death.how, 'its lease lapsed: the worker was killed, froze or was cut off') AS how,
           CASE WHEN cancel_requested THEN 'cancelled'
                WHEN deadline <= clock_timestamp() THEN 'expired'
                WHEN attempt - forgiven < max_attempts THEN 'queued' ELSE 'failed' END AS state
      FROM job LEFT JOIN worker_death AS death
           ON death.worker = split_part(lease_owner, '#', 1) AND death.pid::text = split_part(lease_owner, '#', 2)
     WHERE job.state = 'running' AND lease_until < clock_timestamp() - %(grace_s)s * interval '1 second'
     ORDER BY lease_until LIMIT 500 FOR UPDATE OF job SKIP LOCKED
)
UPDATE job
   SET state = fate.state,
       error = CASE fate.state
               WHEN 'expired' THEN jsonb_build_object(
                    'code', 'expired', 'message', 'the deadline passed while its worker was gone', 'retryable', false)
               WHEN 'failed' THEN jsonb_build_object('code', 'poisoned', 'retryable', false,
                    'message', format('the worker was lost in %%s of %%s attempts; the last was %%s: %%s',
                                      losses + 1, spent, worker, how),
                    'facts', jsonb_build_object('worker', worker, 'attempts', spent, 'losses', losses + 1, 'how', how)) END,
       losses = losses + 1, history = with_attempt(history, attempt, worker, 'worker-lost', how),
       progress = CASE WHEN fate.state = 'queued' THEN 0 ELSE progress END, revision = revision + 1,
       stage = NULL, lease_owner = NULL, lease_until = NULL,
       published_at = NULL, publish_seq = publish_seq + 1, publish_after = clock_timestamp(),
       finished_at = CASE WHEN fate.state <> 'queued' THEN clock_timestamp() END,
       expires_at = CASE WHEN fate.state <> 'queued' THEN clock_timestamp() + retention_s * interval '1 second' END
  FROM fate
 WHERE job.id = fate.job_id
RETURNING job.*

-- bury_worker --
-- Somebody saw the process end: its leases lapse now and not in half a minute, and the record knows how it ended.
WITH death AS (
    INSERT INTO worker_death (worker, pid, how) VALUES (%(worker)s, %(pid)s, %(how)s)
    ON CONFLICT (worker, pid) DO UPDATE SET how = excluded.how, at = clock_timestamp()
)
UPDATE job SET lease_until = least(lease_until, clock_timestamp())
 WHERE state = 'running' AND split_part(lease_owner, '#', 1) = %(worker)s AND split_part(lease_owner, '#', 2) = %(pid)s::text
RETURNING id

-- forget_deaths --
DELETE FROM worker_death WHERE at < clock_timestamp() - %(older_s)s * interval '1 second'

-- expire_queued --
-- The deadline passed before a worker took it.
UPDATE job
   SET state = 'expired', finished_at = clock_timestamp(), revision = revision + 1,
       expires_at = clock_timestamp() + retention_s * interval '1 second',
       error = jsonb_build_object('code', 'expired', 'retryable', false,
               'message', 'the deadline passed before a worker was free')
 WHERE id IN (SELECT id FROM job WHERE state = 'queued' AND deadline <= clock_timestamp()
               ORDER BY deadline LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING *

-- take_unpublished --
-- Jobs that the broker was never told of, or must be told of again. Marked first, published after.
UPDATE job SET published_at = clock_timestamp()
 WHERE id IN (SELECT id FROM job
               WHERE state = 'queued' AND published_at IS NULL AND publish_after <= clock_timestamp()
               ORDER BY publish_after LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, queue, publish_seq, task, model

-- unpublish --
-- The broker did not take the batch after all: due again in a second.
UPDATE job SET published_at = NULL, publish_seq = publish_seq + 1, publish_after = clock_timestamp() + interval '1 second'
  FROM unnest(%(ids)s::uuid[], %(seqs)s::int[]) AS lost (id, seq)
 WHERE job.id = lost.id AND job.publish_seq = lost.seq AND job.state = 'queued'

-- ended_among --
-- Which of these jobs have ended: one statement for all that anybody waits for.
SELECT id FROM job WHERE id = ANY(%(ids)s) AND state NOT IN ('queued', 'running')

-- forget_publications --
-- The broker lost everything (its canary is gone): all that waits is to be published anew.
WITH lost AS (
    UPDATE job SET published_at = NULL, publish_seq = publish_seq + 1, publish_after = clock_timestamp()
     WHERE state = 'queued' AND published_at IS NOT NULL AND published_at < %(before)s
    RETURNING 1)
SELECT count(*) AS jobs FROM lost

-- forget_overtaken --
-- Queues are first in, first out. A job that waits although one published clearly later was taken, or although
-- its queue is empty, has lost its message. A job that went back to the queue is not one that was taken.
UPDATE job SET published_at = NULL, publish_seq = publish_seq + 1, publish_after = clock_timestamp()
 WHERE id IN (
    SELECT waiting.id
      FROM job AS waiting
     WHERE waiting.state = 'queued' AND waiting.queue = %(queue)s
       AND waiting.published_at < clock_timestamp() - %(grace_s)s * interval '1 second'
       AND (%(empty)s OR waiting.published_at <
            (SELECT max(taken.published_at) FROM job AS taken
              WHERE taken.queue = %(queue)s AND taken.state IN ('running', 'succeeded'))
            - %(grace_s)s * interval '1 second')
     ORDER BY waiting.published_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id

-- overdue_queues --
-- Those of the queues in which a job has waited longer than the grace: the only ones worth a look at forget_overtaken.
SELECT name FROM unnest(%(queues)s::text[]) AS name
 WHERE EXISTS (SELECT FROM job WHERE job.queue = name AND job.state = 'queued'
                  AND job.published_at < clock_timestamp() - %(grace_s)s * interval '1 second')

-- waiting_queues --
-- The queues in which anything waits, with how much and how long (seconds).
SELECT queue, count(*) AS waiting, extract(epoch FROM clock_timestamp() - min(created_at))::float8 AS oldest_s
  FROM job WHERE state = 'queued' GROUP BY queue

-- now --
SELECT clock_timestamp() AS now
