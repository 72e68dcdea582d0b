-- submit_job --
-- Stores the job and, in the same statement, the words that it can be listed by (see job_pages.sql). Safe to repeat: the
-- id is the caller's. With a key or inputs it is stored on conditions, which cost a fifth of the statement; where its
-- tenant may have many jobs in the queue, they are counted.
WITH {conditions} {counted} {contents} named AS (
    INSERT INTO job_word (tenant, word, job_id)
    SELECT %(tenant)s, word, %(id)s FROM unnest(%(words)s::text[]) AS word WHERE {allowed}
    ON CONFLICT DO NOTHING
)
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, device_policy, input_bytes,
                 route_reason, params, inputs, labels, max_attempts, deadline, deadline_s, execution_timeout_s,
                 retention_s, trace_context, callback, published_at, publish_after)
SELECT %(id)s, %(tenant)s, %(task)s, %(model)s, %(version)s, %(lane)s, %(priority)s, %(pool)s, %(queue)s,
       %(device_policy)s, %(input_bytes)s, %(route_reason)s, %(params)s, %(inputs)s, %(labels)s, %(max_attempts)s,
       clock_timestamp() + %(deadline_s)s * interval '1 second', %(deadline_s)s, %(execution_timeout_s)s,
       %(retention_s)s, %(trace_context)s, %(callback)s,
       CASE WHEN %(published)s AND {room} THEN clock_timestamp() END, clock_timestamp()
 WHERE {allowed}
ON CONFLICT (id) DO NOTHING
RETURNING *, {published} AS tenant_published,
          -- For this transaction alone. The claim waits for the disk, and comes after it in the log.
          CASE WHEN %(awaited)s THEN set_config('synchronous_commit', 'off', true) END AS flushed_later

-- submit_conditions --
-- Its idempotency key, and the mark on what it reads. No row: the key belongs to another job (see find_by_key), or an
-- input has just been deleted. Uploads and the jobs whose results are read are locked first, so that none is deleted
-- between our look and our mark (see give_up_uploads and hide_expired_jobs).
ready AS MATERIALIZED (
    SELECT id FROM upload
     WHERE tenant = %(tenant)s AND id = ANY(%(uploads)s) AND (used_at IS NOT NULL OR expires_at > clock_timestamp())
       FOR UPDATE
), kept AS MATERIALIZED (
    SELECT id FROM job WHERE tenant = %(tenant)s AND id = ANY(%(source_jobs)s) AND deleted_at IS NULL FOR SHARE
), complete AS MATERIALIZED (
    SELECT (SELECT count(*) FROM ready) = cardinality(%(uploads)s::uuid[])
           AND (SELECT count(*) FROM kept) = cardinality(%(source_jobs)s::uuid[]) AS ok
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
),

-- submit_allowed --
(SELECT ok FROM complete) AND (%(idempotency_key)s::text IS NULL OR EXISTS (SELECT FROM claimed_key))

-- submit_contents --
-- Bytes of inputs that lie beside the row (see kept_inputs.sql).
contents AS (
    INSERT INTO job_input (job_id, number, content)
    SELECT %(id)s, number, content
      FROM unnest(%(kept_numbers)s::integer[], %(kept_contents)b::bytea[]) AS given (number, content)
     -- Of a job that has succeeded since nothing is to come back.
     WHERE {allowed} AND NOT EXISTS (SELECT FROM job WHERE id = %(id)s)
    ON CONFLICT DO NOTHING
),

-- submit_counted --
-- What its tenant has in the queue: jobs with a message, no further than the window and among the latest of all (more
-- than that only a version before has published), and whether any waits for its turn.
-- (By the order of the indexes, so that no other is taken for it.)
share AS MATERIALIZED (
    SELECT (SELECT count(*) FROM (SELECT FROM (
                SELECT tenant, aged FROM job
                 WHERE state = 'queued' AND queue = %(queue)s AND published_at IS NOT NULL
                 ORDER BY published_at DESC LIMIT 20000) AS latest
             WHERE tenant = %(tenant)s AND aged = 0 LIMIT %(window)s) AS published) AS published,
           coalesce((SELECT publish_after FROM job
             WHERE state = 'queued' AND published_at IS NULL AND queue = %(queue)s AND tenant = %(tenant)s
             ORDER BY publish_after LIMIT 1) <= clock_timestamp(), false) AS held
),

-- submit_room --
(SELECT published < %(window)s AND NOT held FROM share)

-- submit_published --
(SELECT published FROM share)

-- find_by_key --
-- The job that an idempotency key stands for.
SELECT job.*, idempotency.fingerprint
  FROM idempotency JOIN job ON job.id = idempotency.job_id
 WHERE idempotency.tenant = %(tenant)s AND idempotency.key = %(key)s AND idempotency.expires_at > clock_timestamp()
   AND job.deleted_at IS NULL

-- publication_failed --
-- The doorbell could not be rung: the leader will do it. In its place among the jobs of its tenant.
UPDATE job SET published_at = NULL, publish_seq = publish_seq + 1
 WHERE id = %(id)s AND state = 'queued' AND publish_seq = %(publish_seq)s

-- get_job --
-- A tenant does not see what it has deleted; whoever asks without a tenant does.
SELECT * FROM job
 WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s AND deleted_at IS NULL)

-- existing_jobs --
-- For all whose job has just ended: one statement.
SELECT * FROM job WHERE id = ANY(%(ids)s) AND deleted_at IS NULL

-- claim_job --
-- The first statement of a run. No row: the message is a duplicate or stale; do nothing.
-- Safe to repeat: the owner is unique to this claim, and a claim that it holds already is only told again.
-- A claim through an older message than the last one published says nothing about the order of the queue, nor does
-- one of a job that had run before: it may have been put first.
-- Unless the worker will run it alone, it does not get a job that may be what killed its workers (see runs_alone).
-- A message that was left behind in a queue of the other pool is void; one in a queue of another priority is not.
UPDATE job
   SET state = 'running', lease_owner = %(owner)s, stage = NULL, progress = 0, error = NULL,
       attempt = attempt + (lease_owner IS DISTINCT FROM %(owner)s)::int,
       revision = revision + (lease_owner IS DISTINCT FROM %(owner)s)::int,
       lease_until = clock_timestamp() + %(lease_s)s * interval '1 second',
       published_at = CASE WHEN publish_seq = %(seq)s AND history = '[]' THEN published_at END,
       started_at = coalesce(started_at, clock_timestamp()),
       -- Taken from a worker whose lease lapsed, before the reconciler saw it.
       losses = losses + CASE WHEN state = 'running' AND lease_owner <> %(owner)s THEN 1 ELSE 0 END,
       history = CASE WHEN state = 'running' AND lease_owner <> %(owner)s
                      THEN with_attempt(history, attempt, split_part(lease_owner, '#', 1), 'worker-lost', 'its lease lapsed')
                      ELSE history END
 WHERE id = %(id)s
   AND (state = 'running' AND lease_owner = %(owner)s
        OR NOT cancel_requested AND attempt - forgiven < max_attempts
           AND (deadline IS NULL OR deadline > clock_timestamp())
           AND (state = 'queued' OR state = 'running' AND lease_until < clock_timestamp())
           AND (%(alone)s OR losses = 0 AND state = 'queued' OR attempt + 1 - forgiven < max_attempts)
           AND (%(kind)s::text IS NULL OR split_part(queue, '.', 1) = %(kind)s))
RETURNING *, extract(epoch FROM clock_timestamp() - queued_at)::float8 AS waited_s

-- runs_alone --
-- Its next attempt is its last one, and workers were lost with it: what killed them may be this job.
SELECT id FROM job
 WHERE id = %(id)s AND NOT cancel_requested AND attempt - forgiven + 1 = max_attempts
   AND (state = 'queued' AND losses > 0 OR state = 'running' AND lease_until < clock_timestamp())

-- renew_leases --
-- All leases of one process in one statement. A job that is missing from the answer is lost to this process.
UPDATE job SET lease_until = clock_timestamp() + %(lease_s)s * interval '1 second'
  FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS held (id, attempt)
 WHERE job.id = ANY(%(ids)s) AND job.id = held.id AND job.attempt = held.attempt AND job.state = 'running'
RETURNING job.id, job.attempt, job.cancel_requested, coalesce(job.deadline <= clock_timestamp(), false) AS overdue

-- watch_leases --
-- Between two renewals: the same question without a write.
SELECT job.id, job.attempt, job.cancel_requested, coalesce(job.deadline <= clock_timestamp(), false) AS overdue
  FROM job JOIN unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS held (id, attempt)
       ON job.id = held.id AND job.attempt = held.attempt
 WHERE job.id = ANY(%(ids)s) AND job.state = 'running'

-- note_progress --
UPDATE job SET stage = told.stage, progress = told.progress, revision = revision + 1
  FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(stages)s::text[], %(progress)s::real[])
       AS told (id, attempt, stage, progress)
 WHERE job.id = ANY(%(ids)s) AND job.id = told.id AND job.attempt = told.attempt AND job.state = 'running'
   AND (job.stage, job.progress) IS DISTINCT FROM (told.stage, told.progress)

-- finish_job --
-- Only the current token wins. Returned is what the worker does not know; inputs that are NULL stay as they are.
UPDATE job
   SET state = 'succeeded', result = %(result)s, artifacts = %(artifacts)s, inputs = coalesce(%(inputs)s, inputs),
       timings = %(timings)s,
       ran_on = %(ran_on)s, stage = NULL, progress = 1, revision = revision + 1, finished_at = clock_timestamp(),
       expires_at = clock_timestamp() + retention_s * interval '1 second', lease_owner = NULL, lease_until = NULL
 WHERE id = %(id)s AND state = 'running' AND attempt = %(attempt)s
RETURNING revision, cancel_requested, finished_at, expires_at, deleted_at

-- finish_kept --
-- The same of a job that has inputs beside its row: nobody reads them again, it is not run once more.
WITH done AS ({finish}), read AS (
    DELETE FROM job_input WHERE job_id = %(id)s AND EXISTS (SELECT FROM done)
)
SELECT * FROM done

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
 WHERE id = %(id)s AND id = fate.job_id AND job.state = 'running' AND attempt = %(attempt)s
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
       -- The epoch: at once, whatever waits before it.
       publish_after = CASE WHEN %(pause_s)s > 0 THEN clock_timestamp() + %(pause_s)s * interval '1 second'
                            ELSE 'epoch' END
 WHERE id = %(id)s AND state = 'running' AND attempt = %(attempt)s
RETURNING *

-- cancel_job --
-- Queued: cancelled at once. Running: asked; the worker confirms.
UPDATE job
   SET cancel_requested = true,
       state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END,
       revision = revision + (NOT cancel_requested)::int,
       finished_at = CASE WHEN state = 'queued' THEN clock_timestamp() END,
       expires_at = CASE WHEN state = 'queued' THEN clock_timestamp() + retention_s * interval '1 second' END
 WHERE id = %(id)s AND tenant = %(tenant)s AND state IN ('queued', 'running') AND deleted_at IS NULL
RETURNING *

-- retry_job --
-- By hand, after an end that was not a success: the attempts so far are forgiven, the token goes on growing.
-- Safe to repeat: whoever asks names the retries that he saw, so that it is never two.
UPDATE job
   SET state = 'queued', forgiven = attempt, losses = 0, retries = retries + 1, cancel_requested = false,
       error = NULL, timings = '{}', ran_on = NULL, stage = NULL, progress = 0, revision = revision + 1,
       history = with_attempt(history, attempt, NULL, 'retried', state),
       started_at = NULL, finished_at = NULL, expires_at = NULL, queued_at = clock_timestamp(),
       -- In the class that was asked for, however far it had come up before.
       aged = 0, queue = split_part(queue, '.', 1) || '.' || lane || '.' || (ARRAY['urgent', 'high', 'normal', 'low'])[priority + 1],
       deadline_s = coalesce(%(deadline_s)s, deadline_s),
       deadline = clock_timestamp() + coalesce(%(deadline_s)s, deadline_s) * interval '1 second',
       published_at = clock_timestamp(), publish_seq = publish_seq + 1, publish_after = clock_timestamp()
 WHERE id = %(id)s AND tenant = %(tenant)s AND state IN ('failed', 'cancelled', 'expired') AND deleted_at IS NULL
   AND retries = %(retries)s
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
           -- Not that of a predecessor: in a container every worker has the same name and number.
           AND death.at > lease_until - interval '1 second'
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
       -- The epoch: at once, whatever waits before it.
       published_at = NULL, publish_seq = publish_seq + 1, publish_after = 'epoch',
       finished_at = CASE WHEN fate.state <> 'queued' THEN clock_timestamp() END,
       expires_at = CASE WHEN fate.state <> 'queued' THEN clock_timestamp() + retention_s * interval '1 second' END
  FROM fate
 WHERE job.id = fate.job_id
RETURNING job.*

-- bury_worker --
-- Somebody saw the process end: its leases lapse now and not in half a minute, and the record knows how it ended.
WITH death AS (
    INSERT INTO worker_death (worker, pid, how, at) VALUES (%(worker)s, %(pid)s, %(how)s, clock_timestamp())
    ON CONFLICT (worker, pid) DO UPDATE SET how = excluded.how, at = clock_timestamp()
), gone AS (
    DELETE FROM worker WHERE name = %(worker)s AND worker.pid = %(pid)s
)
UPDATE job SET lease_until = least(lease_until, clock_timestamp())
 WHERE state = 'running' AND split_part(lease_owner, '#', 1) = %(worker)s AND split_part(lease_owner, '#', 2) = %(pid)s::text
RETURNING id

-- forget_deaths --
DELETE FROM worker_death WHERE at < clock_timestamp() - %(older_s)s * interval '1 second'

-- expire_queued --
-- The deadline passed before a worker took it.
-- Here and below the clock is a value of its own, (SELECT clock_timestamp()): an index is searched with a value, but a
-- function that changes while it is read would be compared with every entry. What is found is taken into an array first,
-- so that it is looked for once, whatever the planner thinks of the rest.
UPDATE job
   SET state = 'expired', finished_at = clock_timestamp(), revision = revision + 1,
       expires_at = clock_timestamp() + retention_s * interval '1 second',
       error = jsonb_build_object('code', 'expired', 'retryable', false,
               'message', 'the deadline passed before a worker was free')
 WHERE id = ANY(ARRAY(SELECT id FROM job WHERE state = 'queued' AND deadline <= (SELECT clock_timestamp())
                       ORDER BY deadline LIMIT 500 FOR UPDATE SKIP LOCKED))
RETURNING *

-- job_standings --
-- How far these jobs are: one statement for all that anybody waits for or follows. What is missing here is gone.
SELECT id, revision, state NOT IN ('queued', 'running') AS ended
  FROM job WHERE id = ANY(%(ids)s) AND deleted_at IS NULL

-- forget_publications --
-- The broker lost everything (its canary is gone): all that waits is to be published anew, each in its place. Part by
-- part.
WITH lost AS (
    UPDATE job SET published_at = NULL, publish_seq = publish_seq + 1
     WHERE id = ANY(ARRAY(SELECT id FROM job
                           WHERE state = 'queued' AND queue = %(queue)s AND published_at < %(before)s
                           ORDER BY published_at LIMIT %(limit)s FOR UPDATE))
    RETURNING 1)
SELECT count(*) AS jobs FROM lost

-- forget_overtaken --
-- Queues are first in, first out. A job that waits although one published clearly later was taken, or although
-- its queue is empty, has lost its message: due at once. A job that went back to the queue is not one that was taken.
UPDATE job SET published_at = NULL, publish_seq = publish_seq + 1, publish_after = 'epoch'
 WHERE id = ANY(ARRAY(
    SELECT waiting.id
      FROM job AS waiting
     WHERE waiting.state = 'queued' AND waiting.queue = %(queue)s
       AND waiting.published_at < (
           SELECT CASE WHEN %(empty)s THEN clock_timestamp() ELSE (
                      SELECT max(taken.published_at) FROM job AS taken
                       WHERE taken.queue = %(queue)s AND taken.state IN ('running', 'succeeded')) END
                  - %(grace_s)s * interval '1 second')
     ORDER BY waiting.published_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING id

-- overdue_queues --
-- Those of the queues in which a job has waited longer than the grace: the only ones worth a look at forget_overtaken.
-- (The first by the index, and not any that EXISTS: for that the planner would look at all that wait elsewhere.)
SELECT name FROM unnest(%(queues)s::text[]) AS name
 WHERE (SELECT published_at FROM job WHERE job.queue = name AND job.state = 'queued' AND published_at IS NOT NULL
         ORDER BY published_at LIMIT 1) < clock_timestamp() - %(grace_s)s * interval '1 second'

-- waiting_queues --
-- Those of the queues in which anything waits, with how much (counted no further than `at_most`) and how long (seconds,
-- of those that were published first).
SELECT name AS queue, waiting, extract(epoch FROM clock_timestamp() - oldest)::float8 AS oldest_s
  FROM unnest(%(queues)s::text[]) AS name
       CROSS JOIN LATERAL (
           SELECT count(*) AS waiting, min(created_at) AS oldest
             FROM (SELECT created_at FROM job WHERE state = 'queued' AND queue = name
                    ORDER BY published_at LIMIT %(at_most)s) AS first) AS counted
 WHERE waiting > 0

-- now --
SELECT clock_timestamp() AS now
