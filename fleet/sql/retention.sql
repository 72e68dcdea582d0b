-- delete_job --
-- From here on its tenant does not see it, its key is free, and nobody is told of it any more. Queued: it has ended.
-- Running: asked to stop; whatever the worker writes then, the job stays hidden.
WITH hidden AS (
    UPDATE job
       SET deleted_at = clock_timestamp(), revision = revision + 1,
           cancel_requested = cancel_requested OR state IN ('queued', 'running'),
           finished_at = CASE WHEN state = 'queued' THEN clock_timestamp() ELSE finished_at END,
           state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END
     WHERE id = %(id)s AND tenant = %(tenant)s AND deleted_at IS NULL
    RETURNING id, state, attempt, artifacts, history, timings, deleted_at
), keys AS (
    DELETE FROM idempotency WHERE job_id = %(id)s AND EXISTS (SELECT FROM hidden)
), told AS (
    DELETE FROM webhook_delivery WHERE job_id = %(id)s AND EXISTS (SELECT FROM hidden)
)
SELECT *, EXISTS (SELECT FROM job_part WHERE job_part.job_id = hidden.id) AS parts FROM hidden

-- expired_jobs --
-- Ended jobs whose time is over, longest first, but for those that somebody still needs (see hide_expired_jobs).
-- The statement's time and not the clock's, which no index is searched with.
SELECT id FROM job
 WHERE expires_at <= statement_timestamp() AND deleted_at IS NULL
   AND NOT EXISTS (SELECT FROM job_source JOIN job AS reader ON reader.id = job_source.job_id
                    WHERE job_source.source_id = job.id AND reader.state IN ('queued', 'running'))
   AND NOT EXISTS (SELECT FROM webhook_delivery AS told WHERE told.job_id = job.id AND told.state = 'pending')
 ORDER BY expires_at LIMIT %(limit)s

-- hide_expired_jobs --
SELECT count(*) AS jobs FROM hide_expired_jobs(%(ids)s)

-- hidden_jobs --
-- Page by page those that are to be removed now: hidden, and no worker is at them.
SELECT id, state, attempt, artifacts, history, timings, deleted_at,
       EXISTS (SELECT FROM job_part WHERE job_part.job_id = job.id) AS parts
  FROM job
 WHERE deleted_at >= %(after_at)s::timestamptz AND (deleted_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
   AND state NOT IN ('queued', 'running')
 ORDER BY deleted_at, id LIMIT %(limit)s

-- hidden_for --
-- Seconds since the job was hidden that has waited longest for its removal, of those that have stopped.
SELECT extract(epoch FROM clock_timestamp() - min(deleted_at))::float8 AS seconds FROM job
 WHERE deleted_at IS NOT NULL AND state NOT IN ('queued', 'running')

-- give_up_inputs --
-- Uploads of these jobs that no other job needs; also those that were given up before and are still there.
SELECT * FROM give_up_uploads(ARRAY(SELECT source_id FROM job_source WHERE job_id = ANY(%(ids)s)))

-- forget_jobs --
-- The last step: their objects are gone. Each part finds its rows by an index of its own.
WITH uploads AS (
    DELETE FROM upload WHERE id = ANY(%(uploads)s) AND used_at IS NULL
), sources AS (
    DELETE FROM job_source WHERE job_id = ANY(%(ids)s)
), keys AS (
    DELETE FROM idempotency WHERE job_id = ANY(%(ids)s)
), told AS (
    DELETE FROM webhook_delivery WHERE job_id = ANY(%(ids)s)
)
DELETE FROM job WHERE id = ANY(%(ids)s) AND deleted_at IS NOT NULL AND state NOT IN ('queued', 'running')
RETURNING id

-- fates --
-- What has become of these jobs; one that is missing is gone for good, since ids are never given again.
SELECT id, state, attempt FROM job WHERE id = ANY(%(ids)s)

-- upload_fates --
-- Of these uploads: whether bytes may still be on their way, and whether all jobs that used it are gone.
SELECT id, state = 'pending' AS pending,
       used_at IS NOT NULL AND NOT EXISTS (
           SELECT FROM job_source JOIN job ON job.id = job_source.job_id WHERE job_source.source_id = upload.id
       ) AND NOT held_by_model(key) AS abandoned
  FROM upload WHERE id = ANY(%(ids)s)

-- model_fates --
-- Of these versions: the first attempt to bring it in whose files are, or can still become, the version's.
SELECT name, version, attempt + (state IN ('requested', 'failed'))::int AS needed_from
  FROM model_version
 WHERE (name, version) IN (SELECT * FROM unnest(%(names)s::text[], %(versions)s::int[]))

-- give_up_abandoned --
SELECT count(*) AS uploads FROM give_up_uploads(%(ids)s)

-- record_identity --
SELECT id FROM record_identity
