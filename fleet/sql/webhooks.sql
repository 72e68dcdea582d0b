-- take_due_deliveries --
-- Deliveries whose time has come, and of no host more than it may have at once. Places go to the tenant that has the
-- fewest, then to the longest overdue: many names for one slow receiver delay its own tenant and nobody else. Each is
-- noted as a try, and due again after the lease: should its sender be lost, somebody repeats it.
-- Hosts are found by skipping through the index, so that a dead one with a long backlog costs as little as any; and
-- compared is the statement's time, since clock_timestamp() may change and is never a condition of an index.
WITH RECURSIVE waiting (host) AS (
    (SELECT host FROM webhook_delivery WHERE state = 'pending' ORDER BY host LIMIT 1)
    UNION ALL
    SELECT (SELECT later.host FROM webhook_delivery AS later
             WHERE later.state = 'pending' AND later.host > waiting.host ORDER BY later.host LIMIT 1)
      FROM waiting WHERE waiting.host IS NOT NULL
), busy (tenant, host, tries) AS (
    SELECT * FROM unnest(%(busy_tenants)s::text[], %(busy_hosts)s::text[], %(busy_counts)s::int[])
), busy_host AS (
    SELECT host, sum(tries)::int AS tries FROM busy GROUP BY host
), busy_tenant AS (
    SELECT tenant, sum(tries)::int AS tries FROM busy GROUP BY tenant
), due AS MATERIALIZED (
    SELECT candidate.id
      FROM waiting LEFT JOIN busy_host AS busy ON busy.host = waiting.host
           CROSS JOIN LATERAL (SELECT id, tenant, due_at FROM webhook_delivery AS delivery
                                WHERE delivery.state = 'pending' AND delivery.host = waiting.host
                                  AND delivery.due_at <= statement_timestamp()
                                ORDER BY delivery.due_at
                                LIMIT greatest(%(per_host)s - coalesce(busy.tries, 0), 0)) AS candidate
           LEFT JOIN busy_tenant ON busy_tenant.tenant = candidate.tenant
     ORDER BY coalesce(busy_tenant.tries, 0)
              + row_number() OVER (PARTITION BY candidate.tenant ORDER BY candidate.due_at), candidate.due_at
     LIMIT %(limit)s
), locked AS MATERIALIZED (
    SELECT id FROM webhook_delivery
     WHERE id IN (SELECT id FROM due) AND state = 'pending' AND due_at <= statement_timestamp()
       FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE webhook_delivery
       SET tries = tries + 1, due_at = clock_timestamp() + %(lease_s)s * interval '1 second'
     WHERE id IN (SELECT id FROM locked)
    RETURNING *
), noted AS (
    INSERT INTO webhook_try (delivery_id, try, at) SELECT id, tries, clock_timestamp() FROM taken
)
SELECT * FROM taken

-- record_try --
-- How a try went. No row: its sender was believed lost, and the delivery has been tried again or ended since.
WITH noted AS (
    UPDATE webhook_try SET took_ms = %(took_ms)s, status = %(status)s, error = %(error)s
     WHERE delivery_id = %(id)s AND try = %(try)s
)
UPDATE webhook_delivery
   SET state = %(state)s, ended_at = CASE WHEN %(state)s <> 'pending' THEN clock_timestamp() END,
       due_at = clock_timestamp()
                + greatest(%(pause_s)s * (0.9 + random() / 5), %(at_least_s)s) * interval '1 second'
 WHERE id = %(id)s AND tries = %(try)s AND state = 'pending'
RETURNING state

-- end_gone --
-- The receiver is gone for good: what else waits for it is not tried either.
UPDATE webhook_delivery SET state = 'gone', ended_at = clock_timestamp()
 WHERE id IN (SELECT id FROM webhook_delivery
               WHERE state = 'pending' AND host = %(host)s AND tenant = %(tenant)s AND url = %(url)s
               ORDER BY id FOR UPDATE)
RETURNING id

-- list_deliveries --
-- Newest first, by key.
SELECT * FROM webhook_delivery
 WHERE tenant = %(tenant)s AND (%(before)s::bigint IS NULL OR number < %(before)s)
   AND (%(state)s::text IS NULL OR state = %(state)s)
 ORDER BY number DESC LIMIT %(limit)s

-- list_deliveries_of_job --
SELECT * FROM webhook_delivery
 WHERE job_id = %(job_id)s AND tenant = %(tenant)s AND (%(before)s::bigint IS NULL OR number < %(before)s)
   AND (%(state)s::text IS NULL OR state = %(state)s)
 ORDER BY number DESC LIMIT %(limit)s

-- get_delivery --
SELECT * FROM webhook_delivery WHERE id = %(id)s AND tenant = %(tenant)s

-- list_tries --
-- Oldest first.
SELECT * FROM webhook_try WHERE delivery_id = %(id)s ORDER BY try

-- replay_delivery --
-- Due now, with the whole schedule before it. No row: unknown, or a try is under way, which is what was asked for.
UPDATE webhook_delivery AS delivery
   SET state = 'pending', forgiven = tries, due_at = clock_timestamp(), ended_at = NULL
 WHERE id = %(id)s AND tenant = %(tenant)s
   AND NOT (state = 'pending' AND due_at > clock_timestamp()
            AND EXISTS (SELECT FROM webhook_try
                         WHERE delivery_id = delivery.id AND try = delivery.tries AND took_ms IS NULL))
RETURNING *

-- forget_deliveries --
-- Ended ones past their time, with their tries.
DELETE FROM webhook_delivery
 WHERE id IN (SELECT id FROM webhook_delivery
               WHERE ended_at < statement_timestamp() - %(older_s)s * interval '1 second'
               ORDER BY ended_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id

-- end_abandoned --
-- Nobody has tried them for so long although their time had come: this fleet sends no webhooks any more.
UPDATE webhook_delivery SET state = 'failed', ended_at = clock_timestamp()
 WHERE state = 'pending' AND due_at < statement_timestamp() - %(overdue_s)s * interval '1 second'
RETURNING id

-- pending_deliveries --
-- How many wait, and for how long the oldest has (seconds).
SELECT count(*) AS pending,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_s
  FROM webhook_delivery WHERE state = 'pending'
