-- list_by_state --
-- Newest first, by key: ids are ordered by time. Each state is read in its order, no further than the page needs.
-- Tenant and state come from outside the inner query and OFFSET 0 stands between order and filters, so that the plan
-- is the same for all values: the planner would walk through everybody's jobs where it thinks a state is common.
SELECT job.*
  FROM (SELECT %(tenant)s::text AS tenant, unnest(%(states)s::text[]) AS state) AS asked
       CROSS JOIN LATERAL (
           SELECT * FROM (
               SELECT * FROM job AS candidate
                WHERE candidate.tenant = asked.tenant AND candidate.state = asked.state
                  AND id >= %(since)s AND id < %(until)s
                ORDER BY id DESC OFFSET 0) AS job
            WHERE {fits} LIMIT %(limit)s) AS job
 ORDER BY job.id DESC LIMIT %(limit)s

-- list_by_word --
-- The same for the jobs that have a word.
SELECT * FROM (
    SELECT job.* FROM job_word JOIN job ON job.id = job_word.job_id
     WHERE job_word.tenant = %(tenant)s AND word = %(word)s AND job_id >= %(since)s AND job_id < %(until)s
     ORDER BY job_id DESC OFFSET 0) AS job
 WHERE {fits} LIMIT %(limit)s

-- fits --
-- The filters, on the row itself.
deleted_at IS NULL
   AND (%(state)s::text IS NULL OR job.state = %(state)s)
   AND (%(cancelling)s::boolean IS NULL OR cancel_requested = %(cancelling)s)
   AND (%(model)s::text IS NULL OR model = %(model)s)
   AND (%(task)s::text IS NULL OR task = %(task)s)
   AND (%(priority)s::smallint IS NULL OR priority = %(priority)s)
   AND (%(labels)s::jsonb IS NULL OR labels @> %(labels)s)
   AND (%(created_after)s::timestamptz IS NULL OR created_at >= %(created_after)s)
   AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s)

-- rarest --
-- By which of several filters the jobs are found soonest: a word, or none for the state. It is the one with the fewest
-- entries; of those with a thousand and more, the one whose newest thousand reach back furthest.
SELECT word
  FROM (SELECT asked.word, ARRAY(
                   SELECT job_id FROM job_word WHERE tenant = %(tenant)s AND job_word.word = asked.word
                      AND job_id >= %(since)s AND job_id < %(until)s ORDER BY job_id DESC LIMIT 1000) AS ids
          FROM unnest(%(words)s::text[]) AS asked (word)
         UNION ALL
        SELECT NULL, ARRAY(
                   SELECT id FROM job WHERE job.tenant = asked.tenant AND job.state = asked.state
                      AND id >= %(since)s AND id < %(until)s ORDER BY id DESC LIMIT 1000)
          FROM (SELECT %(tenant)s::text AS tenant, unnest(ARRAY[%(state)s::text]) AS state) AS asked
         WHERE asked.state IS NOT NULL) AS filters
 ORDER BY cardinality(ids), ids[1000] LIMIT 1
