-- A month of a busy fleet for `benchmarks/record.py`: nearly all jobs have ended, the newest wait, a hundred run.
-- Forty tenants, the first with more than a quarter of the jobs; twenty models, and one that hardly anybody uses.
-- Given: the number of rows and, of them, how many wait, how many run and how many are due to be swept.
-- Asks for PostgreSQL 18 (`uuidv7`).

-- jobs --
INSERT INTO job (id, tenant, task, model, version, lane, priority, pool, queue, route_reason, state, stage, progress,
                 params, inputs, labels, result, artifacts, error, attempt, max_attempts, forgiven, losses, history,
                 lease_owner, lease_until, published_at, publish_after, deadline, deadline_s, execution_timeout_s,
                 retention_s, timings, ran_on, created_at, queued_at, started_at, finished_at, expires_at, revision)
SELECT uuidv7(made - clock_timestamp()), tenant, 'task-' || task, model, 1, 'bulk', priority, pool,
       format('%%s.bulk.%%s', pool, (ARRAY['urgent', 'high', 'normal', 'low'])[priority + 1]),
       'no GPU worker is alive', state, CASE WHEN state = 'running' THEN 'infer' END,
       CASE state WHEN 'queued' THEN 0 WHEN 'running' THEN 0.5 ELSE 1 END,
       '{"format": "nifti", "threshold": 0.5}',
       jsonb_build_array(jsonb_build_object('object', jsonb_build_object(
           'bucket', 'fleet', 'key', format('uploads/%%s/%%s', tenant, md5(n::text)), 'size', 20000000 + n,
           'sha256', repeat(md5(n::text), 2), 'media_type', 'application/octet-stream', 'name', 'head.nii.gz'))),
       labels,
       CASE WHEN state = 'succeeded' THEN json_build_object('labels', json_build_array(json_build_object(
           'value', 1, 'name', 'brain', 'voxels', n, 'volume_ml', n / 1000.0)), 'mask', md5(n::text)) END,
       CASE WHEN state = 'succeeded' THEN jsonb_build_array(jsonb_build_object('name', 'mask.nii.gz', 'object',
           jsonb_build_object('bucket', 'fleet', 'key', format('results/%%s/1/mask.nii.gz', n), 'size', 200000,
                              'sha256', repeat(md5(n::text), 2)))) ELSE '[]' END,
       CASE WHEN state IN ('failed', 'expired') THEN
           '{"code": "corrupt-gzip", "message": "the gzip stream is damaged", "retryable": false}'::jsonb END,
       (state <> 'queued')::int, 3, 0, 0,
       CASE WHEN state = 'failed' THEN jsonb_build_array(jsonb_build_object(
           'attempt', 1, 'worker', 'cpu-1', 'outcome', 'failed', 'detail', 'corrupt-gzip', 'at', made)) ELSE '[]' END,
       CASE WHEN state = 'running' THEN format('cpu-%%s#%%s#00000000', n %% 50, 1000 + n %% 50) END,
       CASE WHEN state = 'running' THEN clock_timestamp() + interval '1 hour' END,
       made, made, made + interval '60 days', 86400, 3600, 7776000,
       '{"queue": 1.5, "load": 0.001, "fetch": 0.2, "decode": 0.4, "prepare": 0.1, "infer": 8.5, "store": 0.3}',
       CASE WHEN state <> 'queued' THEN jsonb_build_object(
           'worker', 'cpu-1', 'pool', pool, 'device', 'CPU', 'provider', 'CPUExecutionProvider') END,
       made, made, CASE WHEN state <> 'queued' THEN made + interval '1 second' END,
       CASE WHEN state NOT IN ('queued', 'running') THEN made + interval '11 seconds' END,
       CASE WHEN state NOT IN ('queued', 'running') THEN
           CASE WHEN n <= %(due)s THEN made + interval '20 days' ELSE made + interval '90 days' END END,
       CASE state WHEN 'queued' THEN 0 ELSE 6 END
  FROM (SELECT n, now() - (%(rows)s - n) * interval '30 days' / %(rows)s AS made,
               'tenant-' || floor(power(random(), 3) * 40) AS tenant,
               CASE WHEN n %% (%(rows)s / 20) = 7 THEN 'rare' ELSE floor(power(random(), 2) * 4)::text END AS task,
               CASE WHEN n %% (%(rows)s / 20) = 7 THEN 'rare' ELSE 'model-' || floor(power(random(), 2) * 20) END AS model,
               CASE WHEN n %% (%(rows)s / 20) = 11 THEN 0 WHEN random() < 0.9 THEN 2 WHEN random() < 0.7 THEN 1 ELSE 3 END
                    AS priority,
               CASE WHEN random() < 0.7 THEN 'gpu' ELSE 'cpu' END AS pool,
               CASE WHEN n > %(rows)s - %(queued)s THEN 'queued'
                    WHEN n > %(rows)s - %(queued)s - %(running)s THEN 'running'
                    WHEN random() < 0.9 THEN 'succeeded' WHEN random() < 0.5 THEN 'failed'
                    WHEN random() < 0.6 THEN 'cancelled' ELSE 'expired' END AS state,
               CASE WHEN random() < 0.6 THEN jsonb_build_object('study', 's' || n / 3, 'site', substr('abcd', 1 + floor(random() * 4)::int, 1))
                    ELSE '{}'::jsonb END AS labels
          FROM generate_series(1, %(rows)s) AS n
        OFFSET 0) AS drawn

-- keys --
INSERT INTO idempotency (tenant, key, fingerprint, job_id, expires_at)
SELECT tenant, 'key-' || id, md5(id::text), id, clock_timestamp() + interval '1 day' FROM job WHERE random() < 0.2

-- sources --
-- An upload for every fifth job.
INSERT INTO job_source (job_id, source_id) SELECT id, gen_random_uuid() FROM job WHERE random() < 0.2

-- uploads --
INSERT INTO upload (id, tenant, bucket, key, size, media_type, state, created_at, expires_at, used_at)
SELECT source_id, tenant, 'fleet', 'uploads/' || source_id, 20000000, 'application/octet-stream', 'complete',
       created_at, created_at + interval '1 day', created_at
  FROM job_source JOIN job ON job.id = job_id

-- deliveries --
INSERT INTO webhook_delivery (tenant, job_id, url, type, data, state, ended_at)
SELECT tenant, id, 'https://example.org/hook', 'job.succeeded', '{}', 'delivered', finished_at
  FROM job WHERE state = 'succeeded' AND random() < 0.02

-- words --
INSERT INTO job_word (tenant, word, job_id)
SELECT tenant, named.word, id FROM job, unnest(job_words(task, model, priority, labels)) AS named (word)
