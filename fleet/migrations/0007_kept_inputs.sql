-- Inputs that are too large for the job's row and too small to be worth an object; see fleet/kept_inputs.py.

CREATE TABLE job_input (
    job_id uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    -- Which of the job's inputs.
    number integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (job_id, number)
);
-- Pictures are compressed already.
ALTER TABLE job_input ALTER COLUMN content SET STORAGE EXTERNAL;
