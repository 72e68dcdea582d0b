-- Parts that attempts have finished of long jobs, so that later attempts need not do them again; see fleet/parts.py.

CREATE TABLE job_part (
    job_id uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    -- The digest of everything that the part came of.
    origin text NOT NULL,
    name text NOT NULL,
    -- Who kept it; the object's key has it too.
    attempt integer NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    PRIMARY KEY (job_id, origin, name)
);
