-- Read by `pitboss providers list`, never while an event is booked.

-- Events by provider version of one partition from an offset on, and the last of them by event time: the time in front,
-- in digits of one length, so that the greatest text is the latest. One partition at a time: joined to a list of them,
-- the planner takes the condition on the offset for a third of the table and reads all of it.
-- name: versions
SELECT provider,
       provider_version,
       count(*) AS events,
       max(lpad(occurred_at_ms::text, 15, '0') || ' ' || attempt_topic || '-' || attempt_part || '@' || attempt_offset)
           AS last
  FROM entry
 WHERE part = %(part)s AND source_offset >= %(first)s
 GROUP BY provider, provider_version
