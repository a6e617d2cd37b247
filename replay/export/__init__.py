"""`pitboss replay export`: a stretch of a topic as a table, JSON lines, CSV, Parquet or DuckDB.

request   what is asked for: topic, period, filters, masks
plan      which offsets of which partitions are read, in which pieces
rows      a piece's records as a table: filtered, masked, one row an event or a leg
writers   a table as the bytes of one format
dataset   pieces on disk, and what survives a kill
finish    pieces to the result that was asked for, and its manifest
"""
