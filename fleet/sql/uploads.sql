-- create_upload --
INSERT INTO upload (id, tenant, bucket, key, name, size, sha256, media_type, state, multipart_id, part_size, expires_at)
VALUES (%(id)s, %(tenant)s, %(bucket)s, %(key)s, %(name)s, %(size)s, %(sha256)s, %(media_type)s, %(state)s,
        %(multipart_id)s, %(part_size)s, clock_timestamp() + %(ttl_s)s * interval '1 second')
ON CONFLICT (id) DO UPDATE SET state = upload.state
RETURNING *

-- get_uploads --
SELECT *, expires_at <= clock_timestamp() AS expired
  FROM upload WHERE id = ANY(%(ids)s) AND tenant = %(tenant)s

-- find_upload_by_key --
SELECT *, expires_at <= clock_timestamp() AS expired
  FROM upload WHERE bucket = %(bucket)s AND key = %(key)s AND tenant = %(tenant)s

-- complete_upload --
-- The bytes are there; a digest that was given before is kept.
UPDATE upload SET state = 'complete', sha256 = coalesce(sha256, %(sha256)s), multipart_id = NULL
 WHERE id = %(id)s AND tenant = %(tenant)s
RETURNING *

-- give_up_upload --
-- From here on no job can take it; its object is removed next, then its row. Killed in between, the sweeper goes on.
UPDATE upload SET expires_at = least(expires_at, clock_timestamp() - interval '2 hours')
 WHERE id = %(id)s AND tenant = %(tenant)s AND used_at IS NULL AND NOT held_by_model(key)
RETURNING *

-- delete_upload --
-- Only what no job uses.
DELETE FROM upload WHERE id = %(id)s AND tenant = %(tenant)s AND used_at IS NULL
RETURNING *

-- stale_uploads --
-- Never used, or used by jobs that are all gone, and past their time, with an hour of grace for a submit that is just
-- under way. None that a model is made of. The statement's time, since no index is searched with the clock's.
SELECT * FROM upload
 WHERE used_at IS NULL AND expires_at < statement_timestamp() - interval '1 hour' AND NOT held_by_model(key)
 ORDER BY expires_at LIMIT %(limit)s

-- forget_idempotency_keys --
DELETE FROM idempotency WHERE expires_at < statement_timestamp() - interval '1 minute'
