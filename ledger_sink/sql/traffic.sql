-- Read by `pitboss providers list`, never on the way of an event.

-- Events by provider version from a place in each partition of the log on, and the last of them by event time: the time
-- in front, in digits of one length, so that the greatest text is the latest.
-- name: versions
SELECT e.provider,
       e.provider_version,
       count(*) AS events,
       max(lpad(e.occurred_at_ms::text, 15, '0') || ' ' || e.attempt_topic || '-' || e.attempt_part
           || '@' || e.attempt_offset) AS last
  FROM unnest(%(parts)s::integer[], %(offsets)s::bigint[]) AS since (part, source_offset)
  JOIN entry AS e ON e.part = since.part AND e.source_offset >= since.source_offset
 GROUP BY e.provider, e.provider_version
