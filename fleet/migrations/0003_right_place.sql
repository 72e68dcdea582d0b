-- The right job on the right device: what routing, fair shares and the cost model need.

ALTER TABLE job
    -- Where its model may run; with the pool and the priority it decides the queue.
    ADD COLUMN device_policy text NOT NULL DEFAULT 'prefer-gpu'
        CHECK (device_policy IN ('gpu-only', 'prefer-gpu', 'any', 'cpu-only')),
    -- Bytes of all inputs together: how long it takes goes by that.
    ADD COLUMN input_bytes bigint NOT NULL DEFAULT 0,
    -- By how many priorities it went up, since it had waited so long.
    ADD COLUMN aged smallint NOT NULL DEFAULT 0;

-- Who submits says the policy: a row without it is of the version before, and its model's card tells. What only a GPU may
-- run waits in a queue of its own since; a message in the other one still leads a GPU worker of the version before to it.
CREATE FUNCTION policy_of(model text, version integer) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT card ->> 'device' FROM model_card
                      WHERE name = policy_of.model AND model_card.version = policy_of.version), 'prefer-gpu')
$$;
UPDATE job
   SET device_policy = policy_of(model, version),
       queue = CASE WHEN policy_of(model, version) = 'gpu-only' THEN regexp_replace(queue, '^gpu[.]', 'gpu-only.') ELSE queue END,
       published_at = CASE WHEN policy_of(model, version) <> 'gpu-only' THEN published_at END,
       publish_seq = publish_seq + CASE WHEN policy_of(model, version) = 'gpu-only' THEN 1 ELSE 0 END
 WHERE state IN ('queued', 'running')
   AND (model, version) IN (SELECT name, version FROM model_card WHERE card ->> 'device' <> 'prefer-gpu');
ALTER TABLE job ALTER COLUMN device_policy DROP DEFAULT;
CREATE FUNCTION placed_by_the_version_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.device_policy := policy_of(new.model, new.version);
    IF new.device_policy = 'gpu-only' THEN
        new.queue := regexp_replace(new.queue, '^gpu[.]', 'gpu-only.');
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER job_placed_by_the_version_before BEFORE INSERT ON job
    FOR EACH ROW WHEN (new.device_policy IS NULL) EXECUTE FUNCTION placed_by_the_version_before();

-- What waits in the record until its tenant has room in the queue: found by queue and tenant, in its order.
DROP INDEX job_unpublished;
CREATE INDEX job_unpublished ON job (queue, tenant, publish_after) WHERE state = 'queued' AND published_at IS NULL;
-- With the tenant, so that shares are counted from the index alone.
DROP INDEX job_waiting;
CREATE INDEX job_waiting ON job (queue, published_at) INCLUDE (created_at, tenant, aged) WHERE state = 'queued';
-- Guests of a higher priority: few at any time.
CREATE INDEX job_aged ON job (queue) WHERE state = 'queued' AND aged > 0;

-- Seconds that a job holds a worker, by what decides them: a normal distribution of their logarithm. `weight` is the
-- number of jobs behind it, the old ones fading.
CREATE TABLE service_time (
    model text NOT NULL,
    version integer NOT NULL,
    -- Number of binary digits of the bytes of its inputs.
    bucket smallint NOT NULL,
    -- "cpu", or the kind of GPU.
    device text NOT NULL,
    weight double precision NOT NULL,
    mean_log double precision NOT NULL,
    variance_log double precision NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, version, bucket, device)
);

-- What the leading front door last saw of the queues, and which CPU workers it sent to help where: one row for all.
CREATE TABLE traffic (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen jsonb NOT NULL
);

ALTER TABLE worker
    -- "cpu", or the kind of GPU: service times are learned by it.
    ADD COLUMN kind text NOT NULL DEFAULT 'cpu',
    -- Whether it helps out in the queues of the GPUs when it is asked to.
    ADD COLUMN helps boolean NOT NULL DEFAULT false,
    -- The queues that it takes from now.
    ADD COLUMN queues text[] NOT NULL DEFAULT '{}',
    -- What it may use for its runs, what they were granted; of a GPU, its memory and what is in use.
    ADD COLUMN memory_usable_bytes bigint,
    ADD COLUMN memory_granted_bytes bigint,
    ADD COLUMN device_memory_bytes bigint,
    ADD COLUMN device_used_bytes bigint;
