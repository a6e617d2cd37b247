-- What people did about alerts.

-- name: add
INSERT INTO fraud.case_action (alert_id, kind, value, actor, reason)
VALUES (%(alert_id)s, %(kind)s, %(value)s, %(actor)s, %(reason)s)

-- name: of_alert
SELECT kind, value, actor, reason, (extract(epoch FROM made_at) * 1000)::bigint
  FROM fraud.case_action WHERE alert_id = %(alert_id)s ORDER BY id

-- name: verdicts
-- The verdict of each closed case: its last action closed it.
SELECT alert_id, value FROM (
    SELECT DISTINCT ON (alert_id) alert_id, kind, value FROM fraud.case_action ORDER BY alert_id, id DESC
) AS latest WHERE kind = 'CLOSED' ORDER BY alert_id
