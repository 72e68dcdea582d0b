-- The record: jobs, idempotency keys, uploads, model cards, workers.

CREATE TABLE job (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    task text NOT NULL,
    model text NOT NULL,
    version integer NOT NULL,
    variant text,
    lane text NOT NULL CHECK (lane IN ('interactive', 'bulk')),
    priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 3),
    pool text NOT NULL CHECK (pool IN ('gpu', 'cpu')),
    queue text NOT NULL,
    route_reason text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')),
    stage text,
    progress real NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    params jsonb NOT NULL DEFAULT '{}',
    inputs jsonb NOT NULL DEFAULT '[]',
    labels jsonb NOT NULL DEFAULT '{}',
    -- json, not jsonb: its fields come back in the order in which the task wrote them.
    result json,
    artifacts jsonb NOT NULL DEFAULT '[]',
    error jsonb,
    -- The fencing token: it grows with every claim and guards every later write.
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL,
    -- Leases handed back by a draining worker; they do not count as attempts spent.
    drains integer NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    -- The outbox: what was told to the broker, and when to tell it again.
    publish_seq integer NOT NULL DEFAULT 1,
    published_at timestamptz,
    publish_after timestamptz NOT NULL DEFAULT clock_timestamp(),
    cancel_requested boolean NOT NULL DEFAULT false,
    deadline timestamptz,
    execution_timeout_s double precision NOT NULL,
    timings jsonb NOT NULL DEFAULT '{}',
    ran_on jsonb,
    trace_context text,
    callback jsonb,
    batch uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    expires_at timestamptz,
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled', 'expired')) = (finished_at IS NOT NULL))
);

CREATE INDEX job_by_tenant ON job (tenant, id DESC);
CREATE INDEX job_by_tenant_state ON job (tenant, state, id DESC);
CREATE INDEX job_unpublished ON job (publish_after) WHERE state = 'queued' AND published_at IS NULL;
-- With created_at, so that depth and age of the queues are read from the index alone.
CREATE INDEX job_waiting ON job (queue, published_at) INCLUDE (created_at) WHERE state = 'queued';
CREATE INDEX job_taken ON job (queue, published_at) WHERE state IN ('running', 'succeeded');
CREATE INDEX job_leased ON job (lease_until) WHERE state = 'running';
CREATE INDEX job_open_deadline ON job (deadline) WHERE state = 'queued';

CREATE TABLE idempotency (
    tenant text NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    job_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE upload (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    bucket text NOT NULL,
    key text NOT NULL UNIQUE,
    name text,
    size bigint NOT NULL CHECK (size > 0),
    sha256 text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    media_type text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'complete')),
    -- The object store's id of a multipart upload in progress, and its part size in bytes.
    multipart_id text,
    part_size bigint,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX upload_unused ON upload (expires_at) WHERE used_at IS NULL;

CREATE TABLE model_card (
    name text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    card jsonb NOT NULL,
    sha256 text NOT NULL,
    announced_by text NOT NULL,
    announced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

CREATE TABLE worker (
    name text PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    pool text NOT NULL CHECK (pool IN ('gpu', 'cpu')),
    lanes text[] NOT NULL,
    device text NOT NULL,
    provider text NOT NULL,
    simulated boolean NOT NULL DEFAULT false,
    concurrency integer NOT NULL,
    -- "name/version" of every model that this worker can serve, and of those that are loaded now.
    models text[] NOT NULL DEFAULT '{}',
    loaded text[] NOT NULL DEFAULT '{}',
    running integer NOT NULL DEFAULT 0,
    rss_bytes bigint,
    draining boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
