"""Ways back after a restore: the ledger booked again from its log, or bound to another log.

survey     where database, log and groups are, and what is in the way
order      the log's records over all partitions in the order of their times
rebook     the stretch that the database lacks, through the production code
held       raw records that wait behind a dead letter of their key
parked     events without a player, as the log says that they ended
outcomes   the answers that were given, compared with those of the booking
record     the row by which no worker starts before a recovery is finished
"""
