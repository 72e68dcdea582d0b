-- model_metrics --
-- Of the jobs of a model that ended in the last seconds, at most the latest of them. The statement's time, since no
-- index is searched with the clock's.
WITH ended AS MATERIALIZED (
    SELECT state, error ->> 'code' AS code, finished_at,
           extract(epoch FROM finished_at - created_at)::float8 AS total_s,
           (timings ->> 'infer')::float8 AS infer_s,
           (ran_on ->> 'batch_size')::float8 AS batch_size
      FROM job
     WHERE model = %(name)s AND finished_at IS NOT NULL
       AND finished_at > statement_timestamp() - %(window_s)s * interval '1 second'
       AND (%(version)s::int IS NULL OR version = %(version)s)
     ORDER BY finished_at DESC LIMIT %(limit)s
), good AS (
    SELECT * FROM ended WHERE state = 'succeeded'
)
SELECT (SELECT count(*) FROM ended) AS jobs,
       (SELECT extract(epoch FROM statement_timestamp() - min(finished_at))::float8 FROM ended) AS oldest_s,
       (SELECT coalesce(jsonb_object_agg(state, count), '{}')
          FROM (SELECT state, count(*) FROM ended GROUP BY state) AS counted) AS states,
       (SELECT coalesce(jsonb_object_agg(code, count), '{}')
          FROM (SELECT code, count(*) FROM ended WHERE code IS NOT NULL AND state <> 'succeeded' GROUP BY code)
            AS counted) AS errors,
       (SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY total_s) FROM good) AS total_s,
       (SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY infer_s) FROM good) AS infer_s,
       (SELECT avg(batch_size) FROM good) AS batch_size
