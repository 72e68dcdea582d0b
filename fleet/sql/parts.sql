-- keep_part --
-- Its object is stored already. Only the current attempt may, and it never puts itself in the place of a later one.
INSERT INTO job_part (job_id, origin, name, attempt, size, sha256)
SELECT id, %(origin)s, %(name)s, attempt, %(size)s, %(sha256)s FROM job
 WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'running'
ON CONFLICT (job_id, origin, name) DO UPDATE
   SET attempt = excluded.attempt, size = excluded.size, sha256 = excluded.sha256
 WHERE job_part.attempt <= excluded.attempt
RETURNING attempt

-- kept_parts --
SELECT name, attempt, size, sha256 FROM job_part WHERE job_id = %(id)s AND origin = %(origin)s

-- newest_parts --
-- Of whatever the latest attempt that kept any has found or made.
SELECT name, attempt, origin, size, sha256 FROM job_part
 WHERE job_id = %(id)s
   AND origin = (SELECT origin FROM job_part WHERE job_id = %(id)s ORDER BY attempt DESC LIMIT 1)

-- jobs_with_needless_parts --
-- Those that have ended, with the attempt that was their last. From job to job in the index, whatever the number of
-- their parts.
WITH RECURSIVE owner AS (
    (SELECT job_id FROM job_part ORDER BY job_id LIMIT 1)
    UNION ALL
    SELECT (SELECT job_id FROM job_part WHERE job_id > owner.job_id ORDER BY job_id LIMIT 1)
      FROM owner WHERE owner.job_id IS NOT NULL
)
SELECT job.id, job.attempt FROM owner JOIN job ON job.id = owner.job_id
 WHERE job.state NOT IN ('queued', 'running') LIMIT %(limit)s

-- forget_parts --
-- Their objects are gone. Not of a job that was retried by hand meanwhile: it goes on to keep parts.
DELETE FROM job_part USING job
 WHERE job_part.job_id = %(id)s AND job.id = %(id)s AND job.attempt = %(attempt)s
   AND job.state NOT IN ('queued', 'running')
