-- announce_card --
-- Written by a worker that holds the model; the newest word wins.
INSERT INTO model_card (name, version, card, sha256, announced_by)
VALUES (%(name)s, %(version)s, %(card)s, %(sha256)s, %(worker)s)
ON CONFLICT (name, version) DO UPDATE
   SET card = excluded.card, sha256 = excluded.sha256, announced_by = excluded.announced_by,
       announced_at = clock_timestamp()

-- get_card --
-- The given version, or the highest.
SELECT card.card,
       (SELECT array_agg(version ORDER BY version) FROM model_card WHERE name = %(name)s) AS versions,
       (SELECT count(*) FROM worker
         WHERE card.name || '/' || card.version = ANY(worker.models) AND NOT worker.draining
           AND card.card ->> 'lane' = ANY(worker.lanes)
           AND worker.seen_at > clock_timestamp() - %(alive_s)s * interval '1 second') AS ready_workers
  FROM model_card AS card
 WHERE card.name = %(name)s AND (%(version)s::int IS NULL OR card.version = %(version)s)
 ORDER BY card.version DESC LIMIT 1

-- list_cards --
-- The highest version of every model.
SELECT DISTINCT ON (card.name) card.card,
       (SELECT array_agg(version ORDER BY version) FROM model_card WHERE name = card.name) AS versions,
       (SELECT count(*) FROM worker
         WHERE card.name || '/' || card.version = ANY(worker.models) AND NOT worker.draining
           AND card.card ->> 'lane' = ANY(worker.lanes)
           AND worker.seen_at > clock_timestamp() - %(alive_s)s * interval '1 second') AS ready_workers
  FROM model_card AS card
 ORDER BY card.name, card.version DESC

-- announce_worker --
INSERT INTO worker (name, host, pid, pool, lanes, device, provider, simulated, concurrency, models, loaded, running,
                    rss_bytes, draining, kind, helps, queues, memory_usable_bytes, memory_granted_bytes,
                    device_memory_bytes, device_used_bytes)
VALUES (%(name)s, %(host)s, %(pid)s, %(pool)s, %(lanes)s, %(device)s, %(provider)s, %(simulated)s, %(concurrency)s,
        %(models)s, %(loaded)s, %(running)s, %(rss_bytes)s, %(draining)s, %(kind)s, %(helps)s, %(queues)s,
        %(memory_usable_bytes)s, %(memory_granted_bytes)s, %(device_memory_bytes)s, %(device_used_bytes)s)
ON CONFLICT (name) DO UPDATE
   SET host = excluded.host, pid = excluded.pid, pool = excluded.pool, lanes = excluded.lanes,
       device = excluded.device, provider = excluded.provider, simulated = excluded.simulated,
       concurrency = excluded.concurrency, models = excluded.models, loaded = excluded.loaded,
       running = excluded.running, rss_bytes = excluded.rss_bytes, draining = excluded.draining,
       kind = excluded.kind, helps = excluded.helps, queues = excluded.queues,
       memory_usable_bytes = excluded.memory_usable_bytes, memory_granted_bytes = excluded.memory_granted_bytes,
       device_memory_bytes = excluded.device_memory_bytes, device_used_bytes = excluded.device_used_bytes,
       started_at = CASE WHEN worker.pid = excluded.pid AND worker.host = excluded.host
                         THEN worker.started_at ELSE clock_timestamp() END,
       seen_at = clock_timestamp()

-- withdraw_worker --
DELETE FROM worker WHERE name = %(name)s AND pid = %(pid)s

-- forget_dead_workers --
DELETE FROM worker WHERE seen_at < clock_timestamp() - %(dead_s)s * interval '1 second' RETURNING name

-- alive_workers --
SELECT * FROM worker WHERE seen_at > clock_timestamp() - %(alive_s)s * interval '1 second' ORDER BY name
