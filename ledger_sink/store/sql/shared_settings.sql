-- What every process of an installation must be configured with alike.

-- name: current
SELECT settings, digest, accepted_by, accepted_at FROM shared_settings ORDER BY id DESC LIMIT 1

-- name: accept
INSERT INTO shared_settings (digest, settings, accepted_by) VALUES (%(digest)s, %(settings)s::jsonb, %(by)s)
