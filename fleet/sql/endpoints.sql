-- endpoint_counts --
-- The newest jobs of a tenant that have a word, by state; with how many of them were tried by hand again.
SELECT state, count(*) AS jobs, count(*) FILTER (WHERE retries > 0) AS retried
  FROM (SELECT job.state, job.retries
          FROM job_word JOIN job ON job.id = job_word.job_id
         WHERE job_word.tenant = %(tenant)s AND word = %(word)s AND deleted_at IS NULL
         ORDER BY job_word.job_id DESC LIMIT %(at_most)s) AS newest
 GROUP BY state

-- purge_endpoint --
-- Cancels what waits, in the order of its keys, part by part; what has been started meanwhile is passed over. All that
-- was looked at comes back, so that the next part begins behind it.
WITH looked AS MATERIALIZED (
    SELECT id, labels @> %(labels)s AS ours FROM job
     WHERE tenant = %(tenant)s AND state = 'queued' AND id > %(after)s
     ORDER BY id LIMIT %(limit)s
), purged AS (
    UPDATE job
       SET cancel_requested = true, state = 'cancelled', revision = revision + 1, finished_at = clock_timestamp(),
           expires_at = clock_timestamp() + retention_s * interval '1 second'
     WHERE id = ANY(ARRAY(SELECT id FROM looked WHERE ours)) AND state = 'queued' AND deleted_at IS NULL
    RETURNING id
)
SELECT looked.id, purged.id IS NOT NULL AS purged FROM looked LEFT JOIN purged USING (id) ORDER BY looked.id

-- told --
SELECT told FROM job_stream WHERE job_id = %(id)s AND retries = %(retries)s

-- tell --
-- The pieces from `told` up to `until` are the caller's, unless somebody else was told meanwhile: then no row.
INSERT INTO job_stream AS stream (job_id, retries, told, reader)
SELECT id, retries, %(until)s, %(reader)s FROM job
 WHERE id = %(id)s AND retries = %(retries)s
ON CONFLICT (job_id) DO UPDATE SET retries = excluded.retries, told = excluded.told, reader = excluded.reader
 WHERE stream.reader = excluded.reader OR stream.retries < excluded.retries AND %(told)s = 0
    OR stream.retries = excluded.retries AND stream.told = %(told)s
RETURNING told
