-- The files of the archive. A row is written before its file: the offsets of a file are decided once, so a file that a
-- kill interrupts is written again with the same records. `sha256` is null until the file is complete.
CREATE TABLE archive_file (
    topic       text    NOT NULL,
    part        integer NOT NULL,
    from_offset bigint  NOT NULL,
    next_offset bigint  NOT NULL,
    records     bigint,
    sha256      text,
    PRIMARY KEY (topic, part, from_offset),
    CHECK (next_offset > from_offset)
);
