-- Evidence of lost workers, revisions for those who follow a job, retention and deletion, webhooks.

-- Attempts that do not count: handed back by a draining worker, or spent before a retry by hand.
ALTER TABLE job RENAME COLUMN drains TO forgiven;
ALTER TABLE job
    -- Grows with every change that a user can see; the id of an event.
    ADD COLUMN revision integer NOT NULL DEFAULT 0,
    -- Attempts whose worker was lost; one that is on its last attempt with losses behind it runs alone.
    ADD COLUMN losses smallint NOT NULL DEFAULT 0,
    ADD COLUMN retries integer NOT NULL DEFAULT 0,
    -- Every attempt that did not succeed, oldest first, at most fifty.
    ADD COLUMN history jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN deadline_s double precision NOT NULL DEFAULT 86400,
    -- From the end to the day on which job and objects are swept (expires_at).
    ADD COLUMN retention_s double precision NOT NULL DEFAULT 604800,
    -- Deleted by its tenant, who does not see it any more; the sweeper removes what is left.
    ADD COLUMN deleted_at timestamptz;
UPDATE job SET expires_at = finished_at + retention_s * interval '1 second' WHERE finished_at IS NOT NULL;
CREATE INDEX job_expiry ON job (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX job_deleted ON job (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE FUNCTION with_attempt(history jsonb, attempt integer, worker text, outcome text, detail text)
    RETURNS jsonb LANGUAGE sql VOLATILE
    RETURN CASE WHEN jsonb_array_length(history) >= 50 THEN history - 0 ELSE history END
        || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
               'attempt', attempt, 'worker', worker, 'outcome', outcome, 'detail', detail,
               'at', clock_timestamp())));

-- What a job reads: uploads, and jobs whose results are its inputs. A source outlives those who need it.
CREATE TABLE job_source (
    job_id uuid NOT NULL,
    source_id uuid NOT NULL,
    PRIMARY KEY (source_id, job_id)
);
CREATE INDEX job_source_by_job ON job_source (job_id);
INSERT INTO job_source (job_id, source_id)
    SELECT DISTINCT job.id, upload.id
      FROM job CROSS JOIN LATERAL jsonb_array_elements(job.inputs) AS item
           JOIN upload ON upload.key = item -> 'object' ->> 'key'
    ON CONFLICT DO NOTHING;
CREATE INDEX idempotency_by_job ON idempotency (job_id);

-- How a worker process ended, told by whoever watched it.
CREATE TABLE worker_death (
    worker text NOT NULL,
    pid integer NOT NULL,
    how text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (worker, pid)
);

-- One row per event that somebody asked to be told of, written by the same statement that changed the job.
CREATE TABLE webhook_delivery (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    tenant text NOT NULL,
    job_id uuid NOT NULL,
    url text NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed', 'gone')),
    tries integer NOT NULL DEFAULT 0,
    -- When to try (again); while a try is under way, when it counts as lost.
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CHECK ((state = 'pending') = (ended_at IS NULL))
);
CREATE INDEX webhook_due ON webhook_delivery (due_at) WHERE state = 'pending';
CREATE INDEX webhook_by_tenant ON webhook_delivery (tenant, number DESC);
CREATE INDEX webhook_by_job ON webhook_delivery (job_id);

CREATE TABLE webhook_try (
    delivery_id uuid NOT NULL REFERENCES webhook_delivery ON DELETE CASCADE,
    try integer NOT NULL,
    at timestamptz NOT NULL,
    took_ms double precision NOT NULL,
    status integer,
    error text,
    PRIMARY KEY (delivery_id, try)
);

CREATE FUNCTION tell_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    event text := 'job.' || CASE new.state WHEN 'running' THEN 'started' ELSE new.state END;
BEGIN
    IF new.callback -> 'events' ? event THEN
        INSERT INTO webhook_delivery (tenant, job_id, url, type, data)
        VALUES (new.tenant, new.id, new.callback ->> 'url', event, jsonb_build_object(
            'job_id', new.id, 'state', new.state, 'task', new.task, 'model', new.model, 'version', new.version,
            'labels', new.labels, 'attempt', new.attempt, 'error', new.error,
            'created_at', new.created_at, 'started_at', new.started_at, 'finished_at', new.finished_at));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER job_told AFTER UPDATE OF state ON job
    FOR EACH ROW WHEN (new.callback IS NOT NULL AND new.state IS DISTINCT FROM old.state)
    EXECUTE FUNCTION tell_webhook();
