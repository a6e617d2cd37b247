-- The dead letters without their bytes, in the order of their topics, so that no command reads a topic whole. It can be
-- thrown away: the next command reads the topics again.
CREATE TABLE dead_letters.letter (
    topic         text    NOT NULL,
    part          integer NOT NULL,
    letter_offset bigint  NOT NULL,
    -- A DeadLetter in Avro, without value and headers.
    letter        bytea   NOT NULL,
    PRIMARY KEY (topic, part, letter_offset)
);

-- How far each partition of a dead letter topic is read, and how many of its records are not dead letters of ours.
CREATE TABLE dead_letters.letter_position (
    topic           text    NOT NULL,
    part            integer NOT NULL,
    next_offset     bigint  NOT NULL,
    foreign_records bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, part)
);
