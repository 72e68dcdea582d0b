-- How much of a job's answer was told by those who stream it, so that no piece is told twice; see fleet/endpoints.py.

CREATE TABLE job_stream (
    job_id uuid PRIMARY KEY REFERENCES job ON DELETE CASCADE,
    -- The job's retries by hand: with each one its answer begins anew.
    retries integer NOT NULL,
    told integer NOT NULL,
    -- The call that was told the last pieces: when it repeats its statement, they are its own still.
    reader text NOT NULL
);

-- In whose form a receiver is told: Fleet's own event, or a dialect's job; see api/webhook_bodies.py.
ALTER TABLE webhook_delivery ADD COLUMN body text NOT NULL DEFAULT 'event';

CREATE OR REPLACE FUNCTION tell_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    event text := 'job.' || CASE new.state WHEN 'running' THEN 'started' ELSE new.state END;
BEGIN
    IF new.callback -> 'events' ? event THEN
        INSERT INTO webhook_delivery (tenant, job_id, url, type, body, data)
        VALUES (new.tenant, new.id, new.callback ->> 'url', event, coalesce(new.callback ->> 'body', 'event'),
            jsonb_build_object(
            'job_id', new.id, 'state', new.state, 'task', new.task, 'model', new.model, 'version', new.version,
            'labels', new.labels, 'attempt', new.attempt, 'error', new.error,
            'artifacts', jsonb_path_query_array(new.artifacts, '$[*].name'),
            'created_at', new.created_at, 'started_at', new.started_at, 'finished_at', new.finished_at));
    END IF;
    RETURN NULL;
END $$;
