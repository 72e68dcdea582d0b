-- The model house: versions that were brought in, names for versions, what is to be loaded, and what was used.

-- A version that came from outside: uploaded, or fetched by a worker. Its files lie in the object store under
-- models/{name}/{version}/. A row that is `ready` has a card in model_card; versions of workers' own folders have only
-- that card.
--
--   requested ──▶ importing ──▶ ready ──▶ removing ──▶ (gone)
--       ▲             │ └─────▶ failed ──▶ removing
--       └─────────────┘ its worker was lost, or handed it back
CREATE TABLE model_version (
    name text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    state text NOT NULL DEFAULT 'requested'
        CHECK (state IN ('requested', 'importing', 'ready', 'failed', 'removing')),
    tenant text NOT NULL,
    -- Where it is to come from; see fleet/model_source.py.
    source jsonb NOT NULL,
    -- model.yaml as the request gives it, over the one that comes with the files; null: what comes with them.
    manifest jsonb,
    -- What shall point to it once it is ready.
    aliases text[] NOT NULL DEFAULT '{}',
    -- Which workers can check it; null: any.
    pool text CHECK (pool IN ('gpu', 'cpu')),
    stage text,
    done_bytes bigint NOT NULL DEFAULT 0,
    total_bytes bigint,
    -- [{"path", "size", "sha256", "key"}], once they are all in the object store.
    files jsonb NOT NULL DEFAULT '[]',
    -- What the check has found: seconds to load and to warm, memory, the example's answer.
    report jsonb,
    error jsonb,
    -- The fencing token, and who holds it until when.
    attempt integer NOT NULL DEFAULT 0,
    -- Workers that were lost while they imported it: after some of them it is not tried again.
    losses integer NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version),
    CHECK ((state = 'importing') = (lease_until IS NOT NULL))
);
CREATE INDEX model_version_open ON model_version (created_at) WHERE state IN ('requested', 'importing', 'removing');

-- `default` is what a request without a version gets; without that alias it is the highest version.
CREATE TABLE model_alias (
    name text NOT NULL,
    alias text NOT NULL,
    version integer NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, alias)
);

-- Of all desires: no number comes twice, also where one was forgotten and is said anew.
CREATE SEQUENCE model_generation;
-- What workers shall do with a version besides loading it when a job needs it: keep it loaded, not serve it, or let it go
-- once and serve it on.
CREATE TABLE model_desire (
    name text NOT NULL,
    version integer NOT NULL,
    desire text NOT NULL CHECK (desire IN ('loaded', 'unloaded', 'evicted')),
    -- A model configuration in the place of its own (Triton's JSON); null: its own.
    config jsonb,
    -- Grows with every request to load it, so that the same word said again is a reload.
    generation bigint NOT NULL DEFAULT nextval('model_generation'),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

-- One row: it grows with every change of the three tables, so that workers see within a second that there is one.
CREATE TABLE model_house (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint NOT NULL DEFAULT 1
);
INSERT INTO model_house DEFAULT VALUES;
CREATE FUNCTION model_house_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE model_house SET revision = revision + 1;
    RETURN NULL;
END $$;
-- Not for progress: that would be every second of a download.
CREATE TRIGGER model_version_changed AFTER INSERT OR DELETE OR UPDATE OF state ON model_version
    FOR EACH STATEMENT EXECUTE FUNCTION model_house_changed();
CREATE TRIGGER model_alias_changed AFTER INSERT OR DELETE OR UPDATE ON model_alias
    FOR EACH STATEMENT EXECUTE FUNCTION model_house_changed();
CREATE TRIGGER model_desire_changed AFTER INSERT OR DELETE OR UPDATE ON model_desire
    FOR EACH STATEMENT EXECUTE FUNCTION model_house_changed();

-- What was run, since ever: told by the workers about once a second, added up here.
CREATE TABLE model_usage (
    name text NOT NULL,
    version integer NOT NULL,
    success bigint NOT NULL DEFAULT 0,
    failure bigint NOT NULL DEFAULT 0,
    -- Items of batches, and runs of the model.
    items bigint NOT NULL DEFAULT 0,
    runs bigint NOT NULL DEFAULT 0,
    -- Nanoseconds, all jobs together; of `failure_ns` from start to end.
    queue_ns bigint NOT NULL DEFAULT 0,
    input_ns bigint NOT NULL DEFAULT 0,
    infer_ns bigint NOT NULL DEFAULT 0,
    output_ns bigint NOT NULL DEFAULT 0,
    failure_ns bigint NOT NULL DEFAULT 0,
    -- {"batch size": [runs, nanoseconds of the runs]}
    batches jsonb NOT NULL DEFAULT '{}',
    last_at timestamptz,
    PRIMARY KEY (name, version)
);

-- Of the ended jobs of a model: rate, times and errors of the last minutes.
CREATE INDEX job_ended_of_model ON job (model, finished_at DESC) WHERE finished_at IS NOT NULL;

-- {"name/version": {"state": "READY", "reason": "", "generation": 1, "memory_bytes": 1}} of every model that the worker
-- was asked to load, or has loaded, or failed to.
ALTER TABLE worker ADD COLUMN model_states jsonb NOT NULL DEFAULT '{}';

-- Whether an object is a file of an upload of a version that is still to be imported, or that may be tried again: then
-- it stays, whoever else has done with it.
CREATE FUNCTION held_by_model(object_key text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM model_version
         WHERE (state IN ('requested', 'importing')
                OR (state = 'failed' AND changed_at > statement_timestamp() - interval '7 days'))
           AND source -> 'files' @> jsonb_build_array(jsonb_build_object('object', jsonb_build_object('key', object_key))))
$$;

-- As 0002 has it, and not what a model is made of.
CREATE OR REPLACE FUNCTION give_up_uploads(ids uuid[]) RETURNS SETOF upload LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM upload WHERE id = ANY(ids) ORDER BY id FOR UPDATE;
    RETURN QUERY
        UPDATE upload SET used_at = NULL, expires_at = least(expires_at, clock_timestamp() - interval '2 hours')
         WHERE upload.id = ANY(ids)
           AND NOT EXISTS (SELECT FROM job_source JOIN job AS reader ON reader.id = job_source.job_id
                            WHERE job_source.source_id = upload.id
                              AND (reader.deleted_at IS NULL OR reader.state IN ('queued', 'running')))
           AND NOT held_by_model(upload.key)
        RETURNING upload.*;
END $$;
