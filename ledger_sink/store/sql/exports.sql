-- name: record
INSERT INTO unmasked_export (operator, stage, topic, request, reason, rows, sha256)
VALUES (%(operator)s, %(stage)s, %(topic)s, %(request)s, %(reason)s, %(rows)s, %(sha256)s);

-- name: recent
SELECT at, login, operator, stage, topic, reason, rows, sha256 FROM unmasked_export ORDER BY id DESC LIMIT %(count)s;
