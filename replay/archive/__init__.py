"""The archive: every topic as Parquet files by offsets, which outlive the broker's retention.

cut        where a file ends: a decision over the records alone
store      folders that hold the files: a local one, or any that fsspec reaches
manifest   what is known of a file without its columns: its name, its manifest, its times
files      one file: its columns, and its records again
archiver   the loop of the role: plan, write, note as complete
verify     holes, overlaps, digests and contents, from the files alone
restore    records back into the partitions of an empty cluster
"""
