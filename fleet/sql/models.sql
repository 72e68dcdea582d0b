-- request --
-- A version to bring in; without a number it is the next one. Nothing when that version is there already.
INSERT INTO model_version (name, version, tenant, source, manifest, aliases)
SELECT %(name)s, coalesce(%(version)s::int, 1 + coalesce((SELECT max(version) FROM (
           SELECT version FROM model_version WHERE name = %(name)s
           UNION ALL SELECT version FROM model_card WHERE name = %(name)s) AS taken), 0)),
       %(tenant)s, %(source)s, %(manifest)s, %(aliases)s
 WHERE NOT EXISTS (SELECT FROM model_card WHERE name = %(name)s AND version = %(version)s::int)
ON CONFLICT DO NOTHING
RETURNING *

-- version --
SELECT * FROM model_version WHERE name = %(name)s AND version = %(version)s

-- versions --
-- Of one model, or of all.
SELECT * FROM model_version WHERE %(name)s::text IS NULL OR name = %(name)s ORDER BY name, version

-- claim_import --
-- The oldest that waits, or whose worker was lost. Interactive workers leave it to others for a while.
UPDATE model_version AS taken
   SET state = 'importing', attempt = taken.attempt + 1, lease_owner = %(worker)s, stage = 'fetching',
       losses = taken.losses + (taken.state = 'importing')::int, done_bytes = 0, total_bytes = NULL,
       lease_until = clock_timestamp() + %(lease_s)s * interval '1 second', changed_at = clock_timestamp()
 WHERE (name, version) = (
       SELECT name, version FROM model_version
        WHERE (state = 'requested' OR (state = 'importing' AND lease_until < clock_timestamp()))
          AND (pool IS NULL OR pool = %(pool)s)
          AND changed_at <= clock_timestamp() - %(older_s)s * interval '1 second'
        ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING *

-- renew_import --
UPDATE model_version
   SET lease_until = clock_timestamp() + %(lease_s)s * interval '1 second', stage = %(stage)s,
       done_bytes = %(done_bytes)s, total_bytes = %(total_bytes)s
 WHERE name = %(name)s AND version = %(version)s AND attempt = %(attempt)s AND state = 'importing'
RETURNING attempt

-- finish_import --
-- Ready, with its card, and whatever names it was to get.
WITH finished AS (
    UPDATE model_version
       SET state = 'ready', lease_owner = NULL, lease_until = NULL, stage = NULL, files = %(files)s,
           report = %(report)s, error = NULL, changed_at = clock_timestamp()
     WHERE name = %(name)s AND version = %(version)s AND attempt = %(attempt)s AND state = 'importing'
 RETURNING name, version, aliases
), carded AS (
    INSERT INTO model_card (name, version, card, sha256, announced_by)
    SELECT name, version, %(card)s, %(sha256)s, 'the model house' FROM finished
    ON CONFLICT (name, version) DO UPDATE
       SET card = excluded.card, sha256 = excluded.sha256, announced_by = excluded.announced_by,
           announced_at = clock_timestamp()
), named AS (
    INSERT INTO model_alias (name, alias, version)
    SELECT name, unnest(aliases), version FROM finished
    ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version, changed_at = clock_timestamp()
)
SELECT name FROM finished

-- fail_import --
UPDATE model_version
   SET state = 'failed', lease_owner = NULL, lease_until = NULL, stage = NULL, error = %(error)s,
       changed_at = clock_timestamp()
 WHERE name = %(name)s AND version = %(version)s AND attempt = %(attempt)s AND state = 'importing'
RETURNING name

-- release_import --
-- Back to those who wait; with a pool, for workers of that one.
UPDATE model_version
   SET state = 'requested', lease_owner = NULL, lease_until = NULL, stage = NULL, pool = coalesce(%(pool)s, pool),
       changed_at = clock_timestamp()
 WHERE name = %(name)s AND version = %(version)s AND attempt = %(attempt)s AND state = 'importing'
RETURNING name

-- retry_import --
UPDATE model_version
   SET state = 'requested', attempt = attempt + 1, losses = 0, error = NULL, done_bytes = 0, total_bytes = NULL,
       changed_at = clock_timestamp()
 WHERE name = %(name)s AND version = %(version)s AND state = 'failed'
RETURNING *

-- remove --
-- Its card goes at once, its files later; nobody may find it by a name any more.
WITH gone AS (
    UPDATE model_version
       SET state = 'removing', lease_owner = NULL, lease_until = NULL, attempt = attempt + 1,
           changed_at = clock_timestamp()
     WHERE name = %(name)s AND version = %(version)s AND state <> 'removing'
 RETURNING name, version
), cards AS (
    DELETE FROM model_card USING gone WHERE model_card.name = gone.name AND model_card.version = gone.version
), aliases AS (
    DELETE FROM model_alias USING gone WHERE model_alias.name = gone.name AND model_alias.version = gone.version
), desires AS (
    DELETE FROM model_desire USING gone WHERE model_desire.name = gone.name AND model_desire.version = gone.version
)
SELECT name FROM gone

-- removing --
SELECT * FROM model_version WHERE state = 'removing' ORDER BY changed_at LIMIT 100

-- removed --
-- Its files are gone.
DELETE FROM model_version WHERE name = %(name)s AND version = %(version)s AND state = 'removing'

-- set_alias --
-- Nothing when there is no such version that can be served.
INSERT INTO model_alias (name, alias, version)
SELECT name, %(alias)s, version FROM model_card WHERE name = %(name)s AND version = %(version)s
ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version, changed_at = clock_timestamp()
RETURNING version

-- drop_alias --
DELETE FROM model_alias WHERE name = %(name)s AND alias = %(alias)s RETURNING version

-- aliases --
SELECT name, alias, version FROM model_alias WHERE %(name)s::text IS NULL OR name = %(name)s ORDER BY name, alias

-- desire --
-- Nothing when there is no such version that can be served.
INSERT INTO model_desire (name, version, desire, config)
SELECT name, version, %(desire)s, %(config)s FROM model_card WHERE name = %(name)s AND version = %(version)s
ON CONFLICT (name, version) DO UPDATE
   SET desire = excluded.desire, config = excluded.config, generation = excluded.generation,
       changed_at = clock_timestamp()
RETURNING *

-- restore_desire --
-- What was desired before, unless something else was asked for meanwhile.
UPDATE model_desire
   SET desire = %(desire)s, config = %(config)s, generation = nextval('model_generation'),
       changed_at = clock_timestamp()
 WHERE name = %(name)s AND version = %(version)s AND generation = %(generation)s

-- forget_desire --
-- With a generation, only that one.
DELETE FROM model_desire
 WHERE name = %(name)s AND version = %(version)s AND generation = coalesce(%(generation)s, generation)

-- desires --
SELECT * FROM model_desire ORDER BY name, version

-- revision --
SELECT revision FROM model_house
