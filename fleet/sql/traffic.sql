-- read_traffic --
SELECT seen, at, extract(epoch FROM clock_timestamp() - at)::float8 AS age_s FROM traffic

-- read_asked --
-- The queues whose helpers include this worker, each with its reason: less to carry than all that was seen.
SELECT extract(epoch FROM clock_timestamp() - at)::float8 AS age_s,
       coalesce((SELECT jsonb_object_agg(queue.key, queue.value ->> 'help_why')
                   FROM jsonb_each(seen -> 'queues') AS queue
                  WHERE queue.value -> 'helpers' ? %(worker)s), '{}') AS asked
  FROM traffic

-- write_traffic --
INSERT INTO traffic (only_row, at, seen) VALUES (true, clock_timestamp(), %(seen)s)
ON CONFLICT (only_row) DO UPDATE SET at = excluded.at, seen = excluded.seen

-- learn_service_times --
-- Two samples taken together, the older one with at most `memory` jobs (the pairwise formula of the variance).
INSERT INTO service_time AS known (model, version, bucket, device, weight, mean_log, variance_log)
SELECT * FROM unnest(%(models)s::text[], %(versions)s::int[], %(buckets)s::smallint[], %(devices)s::text[],
                     %(weights)s::float8[], %(means)s::float8[], %(variances)s::float8[])
       AS seen (model, version, bucket, device, weight, mean_log, variance_log)
 -- In one order, so that two workers that tell the same never wait for each other in a circle.
 ORDER BY 1, 2, 3, 4
ON CONFLICT (model, version, bucket, device) DO UPDATE
   SET weight = least(known.weight, %(memory)s) + excluded.weight,
       mean_log = known.mean_log + (excluded.mean_log - known.mean_log)
                  * excluded.weight / (least(known.weight, %(memory)s) + excluded.weight),
       variance_log = (least(known.weight, %(memory)s) * known.variance_log + excluded.weight * excluded.variance_log)
                      / (least(known.weight, %(memory)s) + excluded.weight)
                      + (excluded.mean_log - known.mean_log) ^ 2 * least(known.weight, %(memory)s) * excluded.weight
                      / (least(known.weight, %(memory)s) + excluded.weight) ^ 2,
       updated_at = clock_timestamp()

-- read_service_times --
-- Of what has run lately: models come and go.
SELECT model, version, bucket, device, weight, mean_log, variance_log
  FROM service_time WHERE updated_at > clock_timestamp() - interval '90 days'

-- place_in_queue --
-- Of one waiting job: how many go before it, from the indexes alone and never counted further than `at_most`; and what
-- some of those are, the next ones first. What is counted is asked for in the order of its index, so that the planner
-- takes that one also before it knows how deep the queue is. A job that is held back for its tenant's turn comes after all that are
-- published, and after its tenant's that are due before it. How far along it is in all: where its moment lies between
-- the first one and the last one.
WITH own AS MATERIALIZED (
    SELECT id, queue, tenant, published_at, publish_after, published_at IS NULL AS held
      FROM job WHERE id = %(id)s AND state = 'queued'
)
SELECT own.held, greatest(0, extract(epoch FROM own.publish_after - clock_timestamp()))::float8 AS due_in_s,
       (SELECT count(*) FROM (
            SELECT FROM job WHERE queue = own.queue AND state = 'queued'
                              AND published_at < coalesce(own.published_at, 'infinity')
             ORDER BY published_at LIMIT %(at_most)s) AS a) AS published,
       CASE WHEN own.held THEN (SELECT count(*) FROM (
            SELECT FROM job WHERE queue = own.queue AND tenant = own.tenant AND state = 'queued' AND published_at IS NULL
                              AND publish_after < own.publish_after
             ORDER BY publish_after LIMIT %(at_most)s) AS a) ELSE 0 END AS own_held,
       CASE WHEN own.held THEN
            (SELECT extract(epoch FROM own.publish_after - first) / nullif(extract(epoch FROM last - first), 0)
               FROM (SELECT (SELECT publish_after FROM job
                              WHERE queue = own.queue AND tenant = own.tenant AND state = 'queued' AND published_at IS NULL
                                -- Not those that are due before all others.
                                AND publish_after > 'epoch' ORDER BY publish_after LIMIT 1) AS first,
                            (SELECT publish_after FROM job
                              WHERE queue = own.queue AND tenant = own.tenant AND state = 'queued' AND published_at IS NULL
                              ORDER BY publish_after DESC LIMIT 1) AS last) AS ends)
       ELSE (SELECT extract(epoch FROM own.published_at - min(published_at))
                    / nullif(extract(epoch FROM max(published_at) - min(published_at)), 0)
               FROM job WHERE queue = own.queue AND state = 'queued')
       END::float8 AS along,
       (SELECT jsonb_agg(jsonb_build_array(model, version, input_bytes)) FROM (
            SELECT model, version, input_bytes FROM job
             WHERE queue = own.queue AND state = 'queued' AND published_at < coalesce(own.published_at, 'infinity')
             ORDER BY published_at LIMIT %(sample)s) AS a) AS ahead
  FROM own

-- held_by_others --
-- How many jobs each other tenant has waiting for its turn in a queue, counted up to `at_most`; of the first hundred.
WITH RECURSIVE held (tenant, place) AS (
    (SELECT tenant, 1 FROM job WHERE queue = %(queue)s AND state = 'queued' AND published_at IS NULL
      ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant FROM job WHERE queue = %(queue)s AND state = 'queued' AND published_at IS NULL
                                     AND job.tenant > held.tenant ORDER BY tenant LIMIT 1), place + 1
      FROM held WHERE held.tenant IS NOT NULL AND place < 100
)
SELECT tenant, (SELECT count(*) FROM (
           SELECT FROM job WHERE queue = %(queue)s AND job.tenant = held.tenant AND state = 'queued'
                             AND published_at IS NULL
            ORDER BY publish_after LIMIT %(at_most)s) AS a) AS jobs
  FROM held WHERE tenant IS NOT NULL AND tenant <> %(tenant)s

-- running_jobs --
-- What runs now, and how long the attempt has: it began when the job was first taken, or when the one before had ended.
SELECT id, tenant, model, version, input_bytes, stage, progress, priority, lane, queue, attempt,
       split_part(lease_owner, '#', 1) AS worker,
       extract(epoch FROM clock_timestamp()
               - greatest(started_at, (history -> -1 ->> 'at')::timestamptz))::float8 AS seconds
  FROM job WHERE state = 'running' ORDER BY id LIMIT %(at_most)s

-- count_waiting --
-- Jobs that wait in these queues, of that tenant or of all, counted no further than `at_most`.
SELECT count(*) AS jobs
  FROM (SELECT FROM unnest(%(queues)s::text[]) AS name
          CROSS JOIN LATERAL (
              SELECT FROM job
               WHERE state = 'queued' AND queue = name AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
               ORDER BY published_at) AS waiting
         LIMIT %(at_most)s) AS counted

-- census --
-- What waits, by queue, tenant, and whether it has a message. All queues together: where one of them holds most of the
-- table, the planner would read all of it once for each queue.
SELECT queue, tenant, published_at IS NULL AS held, count(*) AS jobs,
       extract(epoch FROM clock_timestamp() - min(created_at))::float8 AS oldest_s
  FROM job WHERE state = 'queued' AND queue = ANY(%(queues)s::text[])
 GROUP BY queue, tenant, published_at IS NULL

-- waiting_kinds --
-- Of the first jobs of each queue, how many are of which model and size.
SELECT name AS queue, model, version, length(ltrim(input_bytes::bit(64)::text, '0')) AS bucket, count(*) AS jobs
  FROM unnest(%(queues)s::text[]) AS name
       CROSS JOIN LATERAL (
           SELECT model, version, input_bytes FROM job WHERE state = 'queued' AND queue = name
            ORDER BY published_at LIMIT %(at_most)s) AS waiting
 GROUP BY 1, 2, 3, 4

-- aged_waiting --
-- Not those that pause after a failure, or since no worker had their model: they would keep the others out for ever.
SELECT queue, count(*) AS jobs
  FROM job
 WHERE state = 'queued' AND aged > 0 AND (published_at IS NOT NULL OR publish_after <= clock_timestamp())
 GROUP BY queue

-- running --
-- What every worker runs, and since when.
SELECT split_part(lease_owner, '#', 1) AS worker, model, version, lane,
       length(ltrim(input_bytes::bit(64)::text, '0')) AS bucket,
       extract(epoch FROM clock_timestamp() - started_at)::float8 AS running_s
  FROM job WHERE state = 'running' ORDER BY id

-- age_jobs --
-- Of those with a message, the oldest that have waited longer than is borne go one priority up, and are published
-- there at once. The message that they had is void, or takes them: both are fine.
UPDATE job
   SET queue = %(upper)s, aged = aged + 1, revision = revision + 1,
       route_reason = route_reason || format('; %%s after %%s s as %%s', %(rank)s::text,
           floor(extract(epoch FROM clock_timestamp() - queued_at)), split_part(queue, '.', 3)),
       published_at = NULL, publish_seq = publish_seq + 1, publish_after = 'epoch'
 WHERE id = ANY(ARRAY(
     SELECT id FROM job
      WHERE state = 'queued' AND queue = %(queue)s AND id = ANY(ARRAY(
          SELECT id
            FROM (SELECT id, priority, queued_at FROM job
                   WHERE state = 'queued' AND queue = %(queue)s AND published_at IS NOT NULL
                   ORDER BY published_at LIMIT 500) AS oldest
                 JOIN unnest(%(asked)s::int[], %(budgets)s::float8[]) AS borne (asked, seconds)
                   ON oldest.priority = borne.asked
           WHERE queued_at < clock_timestamp() - seconds * interval '1 second'
           ORDER BY queued_at LIMIT %(limit)s))
        FOR UPDATE SKIP LOCKED))
RETURNING id

-- move_jobs --
-- To a queue of the other pool, in their order, those that workers of that pool can run. The message that they had is
-- void (see claim_job).
UPDATE job
   SET queue = %(target)s, pool = %(pool)s, route_reason = %(why)s, revision = revision + 1,
       published_at = NULL, publish_seq = publish_seq + 1
 WHERE id = ANY(ARRAY(
     SELECT id FROM job
      WHERE state = 'queued' AND queue = %(queue)s AND device_policy = ANY(%(policies)s::text[])
        AND model || '/' || version = ANY(%(models)s::text[])
      ORDER BY published_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING id
