-- The index of dead letters. A command that reads the topics on writes what is new; two at once write the same.

-- name: positions
SELECT topic, part, next_offset, foreign_records FROM dead_letters.letter_position WHERE topic LIKE %(prefix)s

-- name: letters
SELECT topic, part, letter_offset, letter
  FROM dead_letters.letter
 WHERE topic LIKE %(prefix)s
 ORDER BY topic, part, letter_offset

-- name: lock
-- One writer at a time; a reader does not wait.
SELECT pg_advisory_xact_lock(hashtextextended('pitboss.dead_letters.letter', 0))

-- name: position
SELECT next_offset FROM dead_letters.letter_position WHERE topic = %(topic)s AND part = %(part)s

-- name: add
INSERT INTO dead_letters.letter (topic, part, letter_offset, letter)
SELECT %(topic)s, %(part)s, * FROM unnest(%(offsets)s::bigint[], %(letters)s::bytea[])
ON CONFLICT DO NOTHING

-- name: move
INSERT INTO dead_letters.letter_position AS p (topic, part, next_offset, foreign_records)
VALUES (%(topic)s, %(part)s, %(next)s, %(foreign)s)
ON CONFLICT (topic, part) DO UPDATE
   SET next_offset = excluded.next_offset, foreign_records = p.foreign_records + excluded.foreign_records

-- name: cut
DELETE FROM dead_letters.letter WHERE topic = %(topic)s AND part = %(part)s AND letter_offset < %(before)s

-- name: forget
DELETE FROM dead_letters.letter WHERE topic = %(topic)s AND part = %(part)s

-- name: forget_position
DELETE FROM dead_letters.letter_position WHERE topic = %(topic)s AND part = %(part)s
