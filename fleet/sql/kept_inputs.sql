-- kept_inputs --
SELECT number, content FROM job_input WHERE job_id = %(id)s

-- dead_inputs --
-- Removed rows, with the pieces of their bytes, whose room is not free yet; as the server's statistics have it.
SELECT pg_stat_get_dead_tuples(oid) + pg_stat_get_dead_tuples(reltoastrelid) AS dead
  FROM pg_class
 WHERE oid = 'job_input'::regclass

-- free_inputs --
-- The file keeps its length: its pages are wanted again, and cutting them off locks readers out.
VACUUM (SKIP_LOCKED, TRUNCATE false) job_input
