-- Evidence of lost workers, revisions for those who follow a job, retention and deletion, webhooks.

-- `drains` stays for processes of the version before, which run on until they are replaced: see the triggers at the end.
ALTER TABLE job
    -- Attempts that do not count: handed back by a draining worker, or spent before a retry by hand.
    ADD COLUMN forgiven integer NOT NULL DEFAULT 0,
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
    -- Hidden from its tenant for good, who deleted it or whose time for it is over; the sweeper removes what is left.
    ADD COLUMN deleted_at timestamptz;
-- From now on and not from their ends: until now nothing was swept, and nobody was told that it would be.
UPDATE job SET forgiven = drains,
               deadline_s = coalesce(extract(epoch FROM deadline - created_at)::float8, deadline_s),
               expires_at = CASE WHEN finished_at IS NOT NULL THEN clock_timestamp() + retention_s * interval '1 second' END;
-- Who submits says it: a row without it is of the version before.
ALTER TABLE job ALTER COLUMN deadline_s DROP DEFAULT;
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
-- For jobs of the version before: the uploads and the jobs that their inputs name.
CREATE FUNCTION sources_of(inputs jsonb) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    WITH named AS (SELECT item -> 'object' ->> 'key' AS key FROM jsonb_array_elements(inputs) AS item)
    SELECT upload.id FROM named JOIN upload USING (key)
    UNION
    SELECT result[1]::uuid FROM named, regexp_match(key, '^results/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/') AS result
     WHERE result IS NOT NULL
$$;
INSERT INTO job_source (job_id, source_id)
    SELECT job.id, source_id FROM job, sources_of(inputs) AS source_id WHERE inputs <> '[]'
    ON CONFLICT DO NOTHING;
CREATE INDEX idempotency_by_job ON idempotency (job_id);

-- Hides those of these jobs whose time is over: ended, read by no open job, nobody left to be told. What nobody sees is
-- neither retried nor read, so its objects may go. Locked first and looked at after, with a snapshot of then: a submit
-- that reads a job's results holds the row, too.
CREATE FUNCTION hide_expired_jobs(ids uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    locked uuid[] := ARRAY(SELECT id FROM job WHERE id = ANY(ids) ORDER BY id FOR UPDATE SKIP LOCKED);
    hidden uuid[];
BEGIN
    WITH gone AS (
        UPDATE job SET deleted_at = clock_timestamp(), revision = revision + 1
         WHERE id = ANY(locked) AND expires_at <= clock_timestamp() AND deleted_at IS NULL
           AND NOT EXISTS (SELECT FROM job_source JOIN job AS reader ON reader.id = job_source.job_id
                            WHERE job_source.source_id = job.id AND reader.state IN ('queued', 'running'))
           AND NOT EXISTS (SELECT FROM webhook_delivery AS told WHERE told.job_id = job.id AND told.state = 'pending')
        RETURNING id
    ) SELECT array_agg(id) INTO hidden FROM gone;
    DELETE FROM idempotency WHERE job_id = ANY(hidden);
    RETURN QUERY SELECT unnest(hidden);
END $$;

-- Gives up those of these uploads that no job needs any more: from then on no submit can take them, and their objects
-- may go. Locked first and looked at after, since a submit holds the rows of its uploads until its job is there.
CREATE FUNCTION give_up_uploads(ids uuid[]) RETURNS SETOF upload LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM upload WHERE id = ANY(ids) ORDER BY id FOR UPDATE;
    RETURN QUERY
        UPDATE upload SET used_at = NULL, expires_at = least(expires_at, clock_timestamp() - interval '2 hours')
         WHERE upload.id = ANY(ids)
           AND NOT EXISTS (SELECT FROM job_source JOIN job AS reader ON reader.id = job_source.job_id
                            WHERE job_source.source_id = upload.id
                              AND (reader.deleted_at IS NULL OR reader.state IN ('queued', 'running')))
        RETURNING upload.*;
END $$;

-- Whose objects they are: its name lies in the bucket, so that no record sweeps what belongs to another.
CREATE TABLE record_identity (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
INSERT INTO record_identity DEFAULT VALUES;

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
    number bigint GENERATED ALWAYS AS IDENTITY,
    tenant text NOT NULL,
    job_id uuid NOT NULL,
    url text NOT NULL,
    -- host:port, so that one slow receiver does not take every place.
    host text NOT NULL GENERATED ALWAYS AS (coalesce(substring(url FROM '^[a-z]+://([^/?]+)'), url)) STORED,
    type text NOT NULL,
    data jsonb NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed', 'gone')),
    tries integer NOT NULL DEFAULT 0,
    -- Tries before the last replay by hand: the schedule counts from there.
    forgiven integer NOT NULL DEFAULT 0,
    -- When to try (again); while a try is under way, when it counts as lost.
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CHECK ((state = 'pending') = (ended_at IS NULL))
);
CREATE INDEX webhook_due ON webhook_delivery (host, due_at) WHERE state = 'pending';
CREATE INDEX webhook_ended ON webhook_delivery (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX webhook_by_tenant ON webhook_delivery (tenant, number DESC);
CREATE INDEX webhook_by_job ON webhook_delivery (job_id);

CREATE TABLE webhook_try (
    delivery_id uuid NOT NULL REFERENCES webhook_delivery ON DELETE CASCADE,
    try integer NOT NULL,
    at timestamptz NOT NULL,
    -- NULL while it is under way, and for ever when its sender was lost.
    took_ms double precision,
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
            'artifacts', jsonb_path_query_array(new.artifacts, '$[*].name'),
            'created_at', new.created_at, 'started_at', new.started_at, 'finished_at', new.finished_at));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER job_told AFTER UPDATE OF state ON job
    FOR EACH ROW WHEN (new.callback IS NOT NULL AND new.state IS DISTINCT FROM old.state AND new.deleted_at IS NULL)
    EXECUTE FUNCTION tell_webhook();

-- A list without a state is one of all states: an index less to be written three times in the life of each job.
DROP INDEX job_by_tenant;
-- By id and not by lease_until, so that renewing a lease writes no index.
DROP INDEX job_leased;
CREATE INDEX job_running ON job (id) WHERE state = 'running';

-- What a job can be listed by and never changes: written once, where an index on the job would be written three times.
CREATE TABLE job_word (
    tenant text COLLATE "C" NOT NULL,
    word text COLLATE "C" NOT NULL,
    job_id uuid NOT NULL,
    PRIMARY KEY (tenant, word, job_id)
);

-- The same words as `fleet/job_pages.py` gives a job; the usual priority is no word.
CREATE FUNCTION job_words(task text, model text, priority integer, labels jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE
    RETURN ARRAY['task:' || task, 'model:' || model]
           || CASE WHEN priority = 2 THEN '{}' ELSE ARRAY['priority:' || priority] END
           || ARRAY(SELECT left('label:' || key || ':' || value, 300) FROM jsonb_each_text(labels));

INSERT INTO job_word (tenant, word, job_id)
    SELECT tenant, named.word, id FROM job, unnest(job_words(task, model, priority, labels)) AS named (word)
    ON CONFLICT DO NOTHING;

CREATE FUNCTION forget_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM job_word
     USING gone, unnest(job_words(gone.task, gone.model, gone.priority, gone.labels)) AS named (word)
     WHERE job_word.tenant = gone.tenant AND job_word.word = named.word AND job_word.job_id = gone.id;
    RETURN NULL;
END $$;
CREATE TRIGGER job_gone AFTER DELETE ON job REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_words();

-- Processes of the version before go on for a while: what they do not say of a job is said for them.
CREATE FUNCTION submitted_by_the_version_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.deadline_s := coalesce(extract(epoch FROM new.deadline - new.created_at), 86400);
    INSERT INTO job_source (job_id, source_id)
        SELECT new.id, source_id FROM sources_of(new.inputs) AS source_id ON CONFLICT DO NOTHING;
    INSERT INTO job_word (tenant, word, job_id)
        SELECT new.tenant, word, new.id FROM unnest(job_words(new.task, new.model, new.priority, new.labels)) AS word
        ON CONFLICT DO NOTHING;
    RETURN new;
END $$;
CREATE TRIGGER job_of_the_version_before BEFORE INSERT ON job
    FOR EACH ROW WHEN (new.deadline_s IS NULL) EXECUTE FUNCTION submitted_by_the_version_before();

CREATE FUNCTION changed_by_the_version_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.revision := old.revision + 1;
    new.forgiven := old.forgiven + new.drains - old.drains;
    new.expires_at := new.finished_at + new.retention_s * interval '1 second';
    RETURN new;
END $$;
CREATE TRIGGER job_changed_by_the_version_before BEFORE UPDATE OF state ON job
    FOR EACH ROW WHEN (new.state IS DISTINCT FROM old.state AND new.revision = old.revision)
    EXECUTE FUNCTION changed_by_the_version_before();

-- A job is written three times, and its queue is read from the same end at which it leaves: with the usual fifth of the
-- table for a threshold, a million dead entries would lie there. (Pages are packed full: updates between claim and end
-- touch no index and find room all the same.)
ALTER TABLE job SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
