-- How many transactions have crossed partitions. What a worker decides ahead holds only while this stands still.
CREATE TABLE crossing (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    count    bigint  NOT NULL DEFAULT 0
);
INSERT INTO crossing DEFAULT VALUES;

-- A wallet's row is changed with most transactions: with room on its page the new version needs no index entry.
ALTER TABLE wallet SET (fillfactor = 50);
