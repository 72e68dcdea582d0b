-- try_to_lead --
-- One session leads at a time; PostgreSQL itself takes the lock back when the session ends.
SELECT pg_try_advisory_lock(%(lock)s) AS leading

-- still_here --
-- Fails when the session, and with it the lock, is gone.
SELECT true AS here
