-- One row: whose raw topics this installation reads, and how many partitions the raw topics have that are made for it.
-- Without a row, every raw topic is read.
CREATE TABLE raw_topics (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- NULL: those of every provider.
    providers  text[] CHECK (cardinality(providers) > 0),
    partitions integer NOT NULL CHECK (partitions > 0)
);
