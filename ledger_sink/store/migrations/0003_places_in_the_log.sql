-- What was answered for a stretch of one partition. Partitions of unequal traffic are at very different offsets at the
-- same time, so one interval a block range covers nearly everything: for a quiet partition nearly all of the table was
-- read. Many intervals a range tell partitions apart.
DROP INDEX entry_source;
CREATE INDEX entry_source ON entry USING brin (source_offset int8_minmax_multi_ops (values_per_range = 64))
    WITH (pages_per_range = 16);

-- A vacuum summarises new ranges; what is not summarised is read by every restart. A share of the table would be too much.
ALTER TABLE entry SET (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 500000);
