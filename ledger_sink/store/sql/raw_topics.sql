-- Whose raw topics are read, and how many partitions each has.

-- name: stored
SELECT providers, partitions FROM raw_topics

-- name: store
INSERT INTO raw_topics (providers, partitions) VALUES (%(providers)s, %(partitions)s) ON CONFLICT DO NOTHING

-- name: change
UPDATE raw_topics SET providers = %(providers)s
