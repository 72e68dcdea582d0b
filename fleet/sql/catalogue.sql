-- announce_card --
-- Written by a worker that holds the model; the newest word wins.
INSERT INTO model_card (name, version, card, sha256, announced_by)
VALUES (%(name)s, %(version)s, %(card)s, %(sha256)s, %(worker)s)
ON CONFLICT (name, version) DO UPDATE
   SET card = excluded.card, sha256 = excluded.sha256, announced_by = excluded.announced_by,
       announced_at = clock_timestamp()

-- get_card --
-- The given version, or the alias's; without either what `default` points to, else the highest.
WITH chosen AS (
    SELECT coalesce(%(version)s::int,
                    (SELECT named.version FROM model_alias AS named
                       JOIN model_card AS held ON held.name = named.name AND held.version = named.version
                      WHERE named.name = %(name)s AND named.alias = coalesce(%(alias)s::text, 'default')),
                    (SELECT max(version) FROM model_card WHERE name = %(name)s AND %(alias)s::text IS NULL)) AS version)
SELECT card.card, card.announced_at,
       (SELECT array_agg(version ORDER BY version) FROM model_card WHERE name = %(name)s) AS versions,
       (SELECT jsonb_object_agg(alias, version) FROM model_alias WHERE name = %(name)s) AS aliases,
       EXISTS (SELECT FROM model_desire AS desired
                WHERE desired.name = card.name AND desired.version = card.version AND desired.desire = 'unloaded')
           AS unloaded,
       (SELECT count(*) FROM worker
         WHERE card.name || '/' || card.version = ANY(worker.models) AND NOT worker.draining
           AND card.card ->> 'lane' = ANY(worker.lanes)
           AND worker.seen_at > clock_timestamp() - %(alive_s)s * interval '1 second') AS ready_workers
  FROM chosen JOIN model_card AS card ON card.name = %(name)s AND card.version = chosen.version

-- why_missing --
-- What is known of a model of which something was not found: its versions, the latest first.
SELECT coalesce(housed.version, card.version) AS version, housed.state, housed.stage, housed.error,
       card.name IS NOT NULL AS served,
       ARRAY(SELECT alias FROM model_alias WHERE name = %(name)s ORDER BY alias) AS aliases
  FROM (SELECT * FROM model_version WHERE name = %(name)s) AS housed
  FULL JOIN (SELECT * FROM model_card WHERE name = %(name)s) AS card ON card.version = housed.version
 WHERE %(version)s::int IS NULL OR coalesce(housed.version, card.version) = %(version)s
 ORDER BY version DESC LIMIT 1000

-- list_cards --
-- Of every model the version that `default` points to, else the highest.
SELECT DISTINCT ON (card.name) card.card, card.announced_at,
       (SELECT array_agg(version ORDER BY version) FROM model_card WHERE name = card.name) AS versions,
       (SELECT jsonb_object_agg(alias, version) FROM model_alias WHERE name = card.name) AS aliases,
       EXISTS (SELECT FROM model_desire AS desired
                WHERE desired.name = card.name AND desired.version = card.version AND desired.desire = 'unloaded')
           AS unloaded,
       (SELECT count(*) FROM worker
         WHERE card.name || '/' || card.version = ANY(worker.models) AND NOT worker.draining
           AND card.card ->> 'lane' = ANY(worker.lanes)
           AND worker.seen_at > clock_timestamp() - %(alive_s)s * interval '1 second') AS ready_workers
  FROM model_card AS card
  LEFT JOIN model_alias AS usual ON usual.name = card.name AND usual.alias = 'default'
 ORDER BY card.name, (card.version = usual.version) DESC NULLS LAST, card.version DESC

-- every_card --
-- All versions of one model, or of all models.
SELECT card FROM model_card WHERE %(name)s::text IS NULL OR name = %(name)s ORDER BY name, version

-- announce_worker --
INSERT INTO worker (name, host, pid, pool, lanes, device, provider, simulated, concurrency, models, loaded, running,
                    rss_bytes, draining, kind, helps, queues, memory_usable_bytes, memory_granted_bytes,
                    device_memory_bytes, device_used_bytes, model_states)
VALUES (%(name)s, %(host)s, %(pid)s, %(pool)s, %(lanes)s, %(device)s, %(provider)s, %(simulated)s, %(concurrency)s,
        %(models)s, %(loaded)s, %(running)s, %(rss_bytes)s, %(draining)s, %(kind)s, %(helps)s, %(queues)s,
        %(memory_usable_bytes)s, %(memory_granted_bytes)s, %(device_memory_bytes)s, %(device_used_bytes)s,
        %(model_states)s)
ON CONFLICT (name) DO UPDATE
   SET host = excluded.host, pid = excluded.pid, pool = excluded.pool, lanes = excluded.lanes,
       device = excluded.device, provider = excluded.provider, simulated = excluded.simulated,
       concurrency = excluded.concurrency, models = excluded.models, loaded = excluded.loaded,
       running = excluded.running, rss_bytes = excluded.rss_bytes, draining = excluded.draining,
       kind = excluded.kind, helps = excluded.helps, queues = excluded.queues,
       memory_usable_bytes = excluded.memory_usable_bytes, memory_granted_bytes = excluded.memory_granted_bytes,
       device_memory_bytes = excluded.device_memory_bytes, device_used_bytes = excluded.device_used_bytes,
       model_states = excluded.model_states,
       started_at = CASE WHEN worker.pid = excluded.pid AND worker.host = excluded.host
                         THEN worker.started_at ELSE clock_timestamp() END,
       seen_at = clock_timestamp()

-- withdraw_worker --
DELETE FROM worker WHERE name = %(name)s AND pid = %(pid)s

-- forget_dead_workers --
DELETE FROM worker WHERE seen_at < clock_timestamp() - %(dead_s)s * interval '1 second' RETURNING name

-- alive_workers --
SELECT * FROM worker WHERE seen_at > clock_timestamp() - %(alive_s)s * interval '1 second' ORDER BY name
