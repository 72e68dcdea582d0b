-- due_pairs --
-- Queues and tenants that have anything to publish now. From pair to pair through the index: what lies between is
-- not looked at, however much it is.
WITH RECURSIVE pair AS (
    (SELECT queue, tenant, publish_after FROM job WHERE state = 'queued' AND published_at IS NULL
      ORDER BY queue, tenant, publish_after LIMIT 1)
    UNION ALL
    SELECT next.queue, next.tenant, next.publish_after
      FROM pair CROSS JOIN LATERAL (
           SELECT queue, tenant, publish_after FROM job
            WHERE state = 'queued' AND published_at IS NULL AND (queue, tenant) > (pair.queue, pair.tenant)
            ORDER BY queue, tenant, publish_after LIMIT 1) AS next
)
SELECT queue, tenant, publish_after = 'epoch' AS at_once FROM pair WHERE publish_after <= clock_timestamp()

-- count_published --
-- Jobs with a message, by queue and tenant; of these, those that had theirs at `since`. A queue is counted no further
-- than `at_most`. What was published up to `lost` has no message any more. Guests from the class below (`remedies.py`)
-- take no place from those of the class.
SELECT name AS queue, tenant, count(*) FILTER (WHERE aged = 0) AS jobs,
       count(*) FILTER (WHERE aged = 0 AND published_at <= since) AS older, max(published_at) AS newest
  FROM unnest(%(queues)s::text[], %(since)s::timestamptz[]) AS named (name, since)
       CROSS JOIN LATERAL (
           SELECT tenant, published_at, aged FROM job
            WHERE state = 'queued' AND queue = name AND published_at > coalesce(%(lost)s::timestamptz, 'epoch')
            ORDER BY published_at LIMIT %(at_most)s) AS waiting
 GROUP BY name, tenant

-- take_due --
-- Up to so many jobs of each queue and tenant, in their order. Marked first, published after.
-- What had its turn and lost it through no fault of its own goes before all that wait in the queue.
UPDATE job SET published_at = clock_timestamp()
 WHERE id = ANY(ARRAY(
    SELECT due.id
      FROM unnest(%(queues)s::text[], %(tenants)s::text[], %(rooms)s::int[]) AS pair (queue, tenant, room)
           CROSS JOIN LATERAL (
               SELECT id FROM job
                WHERE state = 'queued' AND published_at IS NULL AND job.queue = pair.queue AND job.tenant = pair.tenant
                  AND publish_after <= (SELECT CASE WHEN %(at_once)s THEN 'epoch' ELSE clock_timestamp() END)
                ORDER BY publish_after LIMIT pair.room FOR UPDATE SKIP LOCKED) AS due))
RETURNING id, tenant, queue, publish_seq, task, model, publish_after, published_at,
          coalesce(history -> -1 ->> 'outcome' = 'worker-lost' OR history -> -1 ->> 'detail' = 'drained', false) AS first

-- unpublish --
-- The broker did not take the batch after all: due again, in its place.
UPDATE job SET published_at = NULL, publish_seq = publish_seq + 1
  FROM unnest(%(ids)s::uuid[], %(seqs)s::int[]) AS lost (id, seq)
 WHERE job.id = lost.id AND job.publish_seq = lost.seq AND job.state = 'queued'
