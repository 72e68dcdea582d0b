-- inference_summary --
-- What became of the jobs that a tenant submitted lately, at most the newest of them: by state, task and model. Found by
-- key, since ids are ordered by time; each state is read in its order, no further than the limit.
WITH lately AS MATERIALIZED (
    SELECT job.*
      FROM (SELECT %(tenant)s::text AS tenant, unnest(%(states)s::text[]) AS state) AS asked
           CROSS JOIN LATERAL (
               SELECT state, task, model, version, error ->> 'code' AS code,
                      extract(epoch FROM finished_at - created_at)::float8 AS total_s,
                      (timings ->> 'queue')::float8 AS queue_s, (timings ->> 'infer')::float8 AS infer_s,
                      (ran_on ->> 'cached')::boolean AS cached
                 FROM job AS candidate
                WHERE candidate.tenant = asked.tenant AND candidate.state = asked.state AND id >= %(since)s
                      AND deleted_at IS NULL
                ORDER BY id DESC LIMIT %(limit)s) AS job
), good AS (
    SELECT * FROM lately WHERE state = 'succeeded'
)
SELECT (SELECT count(*) FROM lately) AS jobs,
       (SELECT coalesce(jsonb_object_agg(state, count), '{}')
          FROM (SELECT state, count(*) FROM lately GROUP BY state) AS counted) AS states,
       (SELECT coalesce(jsonb_object_agg(task, count), '{}')
          FROM (SELECT task, count(*) FROM lately GROUP BY task) AS counted) AS tasks,
       (SELECT coalesce(jsonb_object_agg(code, count), '{}')
          FROM (SELECT code, count(*) FROM lately WHERE code IS NOT NULL AND state <> 'succeeded' GROUP BY code)
            AS counted) AS errors,
       (SELECT coalesce(jsonb_agg(to_jsonb(each) ORDER BY each.jobs DESC, each.model, each.version), '[]')
          FROM (SELECT model, version, count(*) AS jobs,
                       count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
                       count(*) FILTER (WHERE state IN ('failed', 'expired')) AS failed,
                       avg(infer_s) FILTER (WHERE state = 'succeeded') AS mean_infer_s,
                       avg(total_s) FILTER (WHERE state = 'succeeded') AS mean_total_s
                  FROM lately GROUP BY model, version
                 ORDER BY jobs DESC, model, version LIMIT %(models)s) AS each) AS models,
       (SELECT avg(cached::int)::float8 FROM good) AS cached_share,
       (SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY total_s) FROM good) AS total_s,
       (SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY queue_s) FROM good) AS queue_s,
       (SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY infer_s) FROM good) AS infer_s
