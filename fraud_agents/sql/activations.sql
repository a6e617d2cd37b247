-- From which offsets on which rules judge the log, for operators.

-- name: applied_from
-- Of each partition that is watched, the first offset that the rules as of a position judge; null while they judge none.
SELECT part, min(from_offset) FILTER (WHERE rules_position >= %(position)s)
  FROM fraud.activation WHERE consumer = %(consumer)s AND topic = %(topic)s
 GROUP BY part ORDER BY part

-- name: markers
SELECT topic, part, from_offset, rules_position, rule_set, activated_at FROM fraud.activation
 WHERE consumer = %(consumer)s
 ORDER BY topic, part, from_offset
