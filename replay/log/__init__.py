"""The log that replay reads: records of one partition at a time, from a broker or an archive.

blocks   successive records of one partition, and what every source of them answers
broker   a live broker, by a client of its own that commits nothing
"""
