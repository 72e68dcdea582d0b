-- add_usage --
-- Adds what was run to the totals. In the order of the key, so that two workers never wait for each other.
INSERT INTO model_usage AS total (
       name, version, success, failure, items, runs, queue_ns, input_ns, infer_ns, output_ns, failure_ns, batches, last_at)
SELECT name, version, success, failure, items, runs, queue_ns, input_ns, infer_ns, output_ns, failure_ns, batches,
       CASE WHEN runs + success + failure > 0 THEN clock_timestamp() END
  FROM jsonb_to_recordset(%(deltas)s) AS told (
       name text, version integer, success bigint, failure bigint, items bigint, runs bigint, queue_ns bigint,
       input_ns bigint, infer_ns bigint, output_ns bigint, failure_ns bigint, batches jsonb)
 ORDER BY name, version
ON CONFLICT (name, version) DO UPDATE
   SET success = total.success + excluded.success, failure = total.failure + excluded.failure,
       items = total.items + excluded.items, runs = total.runs + excluded.runs,
       queue_ns = total.queue_ns + excluded.queue_ns, input_ns = total.input_ns + excluded.input_ns,
       infer_ns = total.infer_ns + excluded.infer_ns, output_ns = total.output_ns + excluded.output_ns,
       failure_ns = total.failure_ns + excluded.failure_ns,
       batches = (
           SELECT coalesce(jsonb_object_agg(size, jsonb_build_array(runs, ns)), '{}')
             FROM (SELECT key AS size, sum((value ->> 0)::bigint) AS runs, sum((value ->> 1)::bigint) AS ns
                     FROM (SELECT * FROM jsonb_each(total.batches)
                           UNION ALL SELECT * FROM jsonb_each(excluded.batches)) AS each
                    GROUP BY key) AS summed),
       last_at = coalesce(excluded.last_at, total.last_at)

-- read_usage --
-- Of one version, of one model, or of all.
SELECT * FROM model_usage
 WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(version)s::int IS NULL OR version = %(version)s)
 ORDER BY name, version
